import Foundation

/// When an account expires, as directories write it.
enum ExpiryDate: Equatable {
    case never
    case date(Date)

    /// The date of a value: generalized time (RFC 4517 section 3.3.13: `20261130120000Z`), a FILETIME (`accountExpires`: 100 ns since 1601),
    /// seconds or days since 1970 (`shadowExpire`); nil for what is none of these.
    init?(_ text: String) {
        if let number = Int64(text), text.first != "+" {
            switch number {
            // No account expires at the beginning of time; the last is Active Directory's word for never.
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
