import Foundation

extension DirectoryConfiguration {
    /// A condition on an attribute of an entry: `nsAccountLock`, `status=inactive`, `status=*`, `userAccountControl&2`,
    /// `accountExpires<now`.
    public struct Condition: Sendable, Codable, Equatable {
        /// The test of the attribute's values.
        public enum Test: Sendable, Codable, Equatable {
            /// A value is `TRUE`, `yes`, `on` or a number other than 0.
            case isTrue
            /// A value equals this text, whatever its case.
            case equals(String)
            /// A value is a number with this bit set.
            case hasBit(Int64)
            /// There is a value.
            case isPresent
            /// A value is a date in the past: generalized time (RFC 4517), a FILETIME of Active Directory, seconds or
            /// days since 1970.
            case isPast
        }

        /// Attributes with a date, in lower case: without a test they mean a date in the past.
        private static let dates: Set<String> = [
            "accountexpires", "krbprincipalexpiration", "shadowexpire", "schacexpirydate", "pwdendtime",
        ]

        /// The attribute's name.
        public var attribute: String
        /// The test of its values.
        public var test: Test

        /// The condition that the configuration file writes in this form; nil if the text isn't a condition.
        public init?(_ text: String) {
            let end = text.firstIndex { $0 == "=" || $0 == "&" || $0 == "<" } ?? text.endIndex
            attribute = text[..<end].trimmingCharacters(in: .whitespaces)
            guard DirectoryConfiguration.isAttribute(attribute) else { return nil }
            guard end < text.endIndex else {
                test = Self.dates.contains(attribute.lowercased()) ? .isPast : .isTrue
                return
            }
            let value = text[text.index(after: end)...].trimmingCharacters(in: .whitespaces)
            switch text[end] {
            case "=":
                guard !value.isEmpty else { return nil }
                // A pattern, as in a filter: no value would equal it.
                guard value == "*" || !value.contains("*") else { return nil }
                test = value == "*" ? .isPresent : .equals(value)
            case "<":
                guard value.lowercased() == "now" else { return nil }
                test = .isPast
            default:
                guard let bit = Int64(value), bit > 0 else { return nil }
                test = .hasBit(bit)
            }
        }
    }
}

extension DirectoryConfiguration.Condition {
    /// The result of the test for one value.
    enum Evaluation: Equatable {
        case holds, holdsNot
        /// The condition holds from this time on.
        case holdsFrom(Date)
        /// The value isn't of the kind that the test needs, which is named in words.
        case unclear(accepted: String)
    }

    /// Tests one value of the attribute.
    func evaluate(_ value: UnsafeBufferPointer<UInt8>, now: Date) -> Evaluation {
        func text() -> String { String(decoding: value.trimmed, as: UTF8.self) }
        switch test {
        case .isPresent: return .holds
        case .isTrue:
            let text = text().lowercased()
            if ["true", "yes", "on"].contains(text) { return .holds }
            if ["false", "no", "off", ""].contains(text) { return .holdsNot }
            if let number = Int64(text) { return number != 0 ? .holds : .holdsNot }
            return .unclear(accepted: "true or false")
        case .equals(let other): return text().lowercased() == other.lowercased() ? .holds : .holdsNot
        case .hasBit(let bit):
            guard let number = Int64(text()) else { return .unclear(accepted: "a number") }
            return number & bit != 0 ? .holds : .holdsNot
        case .isPast:
            switch ExpiryDate(text()) {
            case .never: return .holdsNot
            case .date(let date): return date <= now ? .holds : .holdsFrom(date)
            case nil:
                return .unclear(accepted: "a date, as generalized time, a FILETIME, or seconds or days since 1970")
            }
        }
    }
}

/// The time at which an account expires, in the forms that directories use.
enum ExpiryDate: Equatable {
    case never
    case date(Date)

    /// The date of a value: generalized time (RFC 4517 section 3.3.13: `20261130120000Z`), a FILETIME
    /// (`accountExpires`: 100 ns since 1601), seconds or days since 1970 (`shadowExpire`); nil for any other text.
    init?(_ text: String) {
        if let number = Int64(text), text.first != "+" {
            switch number {
            // Active Directory writes 0 or the largest number for an account that never expires.
            case ...0, Int64.max: self = .never
            case 1..<100_000: self = .date(Date(timeIntervalSince1970: Double(number) * 86_400))
            case 100_000_000..<100_000_000_000: self = .date(Date(timeIntervalSince1970: Double(number)))
            case 10_000_000_000_000_000...:
                self = .date(Date(timeIntervalSince1970: Double(number) / 10_000_000 - 11_644_473_600))
            default: return nil
            }
            return
        }
        guard let date = Self.generalizedTime(text) else { return nil }
        self = .date(date)
    }

    private static func generalizedTime(_ text: String) -> Date? {
        let digits = text.utf8.prefix { (0x30...0x39).contains($0) }
        guard [10, 12, 14].contains(digits.count) else { return nil }
        func number(_ range: Range<Int>) -> Int {
            Int(String(decoding: digits.dropFirst(range.lowerBound).prefix(range.count), as: UTF8.self)) ?? 0
        }
        var parts = DateComponents()
        parts.year = number(0..<4)
        parts.month = number(4..<6)
        parts.day = number(6..<8)
        parts.hour = number(8..<10)
        parts.minute = digits.count >= 12 ? number(10..<12) : 0
        parts.second = digits.count == 14 ? number(12..<14) : 0
        guard (1...12).contains(parts.month ?? 0), (1...31).contains(parts.day ?? 0),
            (0...23).contains(parts.hour ?? 99),
            (0...59).contains(parts.minute ?? 99), (0...60).contains(parts.second ?? 99)
        else { return nil }
        var rest = text.utf8.dropFirst(digits.count)
        if let first = rest.first, first == UInt8(ascii: ".") || first == UInt8(ascii: ",") {
            rest = rest.dropFirst().drop { (0x30...0x39).contains($0) }
        }
        guard let offset = offset(String(decoding: Array(rest), as: UTF8.self)) else { return nil }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        return calendar.date(from: parts)?.addingTimeInterval(-offset)
    }

    /// The seconds east of Greenwich of `Z`, `+0100`, `-05`.
    private static func offset(_ text: String) -> Double? {
        if text == "Z" { return 0 }
        guard let sign = text.first, sign == "+" || sign == "-", [3, 5].contains(text.utf8.count),
            let hours = Int(text.dropFirst().prefix(2)), let minutes = text.utf8.count == 5 ? Int(text.suffix(2)) : 0,
            (0...23).contains(hours), (0...59).contains(minutes)
        else { return nil }
        let seconds = Double(hours * 3_600 + minutes * 60)
        return sign == "-" ? -seconds : seconds
    }
}
