public import Foundation

/// A report as a complete mail: multipart/alternative with the text and the HTML form (RFC 5322, RFC 2045, RFC 2046),
/// lines ending with a line feed, as sendmail(1) expects.
public struct ReportMail: Sendable {
    /// An address that a header can't hold as it is.
    public struct InvalidAddress: Error, Sendable, Equatable, CustomStringConvertible {
        /// The given text.
        public let address: String

        /// The message, with the accepted forms.
        public var description: String {
            "\"\(SafeText.fitted(SafeText.escaped(address), 80))\": a report can't be sent to or from this address; accepted: a "
                + "plain address in ASCII, such as postmaster@example.com or root"
        }
    }

    /// The sender.
    let from: String
    /// The recipients.
    let recipients: [String]
    /// The gateway's name.
    let host: String

    /// A mail from a sender to at least one recipient, all of them plain addresses.
    ///
    /// - Parameter host: the gateway's name, for the subject and the heading.
    public init(from: String, to recipients: [String], host: String) throws(InvalidAddress) {
        for address in [from] + recipients {
            guard Self.isPlain(address) else { throw InvalidAddress(address: address) }
        }
        guard !recipients.isEmpty else { throw InvalidAddress(address: "") }
        self.from = from
        self.recipients = recipients
        self.host = host
    }

    /// The whole message.
    ///
    /// - Parameters:
    ///   - timeZone: the zone of the times shown.
    ///   - now: its date.
    ///   - identifier: letters and digits that make the Message-ID and the boundary unique.
    public func message(
        _ report: RejectionReport, timeZone: TimeZone = .current, now: Date = Date(), identifier: String = unique()
    ) throws -> String {
        let identifier = String(identifier.filter { $0.isASCII && ($0.isLetter || $0.isNumber) }.prefix(40))
        // `=_` can't occur in quoted-printable text (RFC 2045, section 6.7).
        let boundary = "=_postern_\(identifier)"
        let domain = from.firstIndex(of: "@").map { String(from[from.index(after: $0)...]) } ?? "localhost"
        let headers = [
            "From: Postern <\(from)>",
            "To: " + recipients.joined(separator: ",\n "),
            MailHeader.line("Subject", subject(report, timeZone)),
            "Date: \(Self.date(now, timeZone))",
            "Message-ID: <postern.report.\(identifier)@\(domain)>",
            // No out-of-office replies: RFC 3834, and the header that Exchange reads.
            "Auto-Submitted: auto-generated",
            "X-Auto-Response-Suppress: All",
            "MIME-Version: 1.0",
            "Content-Type: multipart/alternative;\n boundary=\"\(boundary)\"",
        ]
        let text = report.text(.init(width: 76), timeZone: timeZone)
        let html = try report.html(host: host, timeZone: timeZone, now: now)
        let parts = [("text/plain", text), ("text/html", html)].map { type, text in
            """
            --\(boundary)
            Content-Type: \(type); charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            \(QuotedPrintable.encoded(text))
            """
        }
        return headers.joined(separator: "\n") + "\n\n" + parts.joined(separator: "\n") + "\n--\(boundary)--\n"
    }

    /// A random identifier of letters and digits.
    public static func unique() -> String {
        String(UInt64(max(0, Date().timeIntervalSince1970)), radix: 36)
            + String(UInt64.random(in: 0...UInt64.max), radix: 36)
    }

    /// The findings, the number of rejections and the period.
    private func subject(_ report: RejectionReport, _ zone: TimeZone) -> String {
        let days = [report.figures.period.since, report.figures.period.until].map {
            TimeText.local($0, zone).prefix(10)
        }
        var words: [String] = []
        if !report.findings.isEmpty { words.append(ReportWords.findings(report.findings)) }
        words.append("\(ReportWords.grouped(report.figures.refusals)) rejected")
        if let domain = report.filters.domain { words.append("domain \(SafeText.escaped(domain))") }
        return "Postern on \(SafeText.escaped(host)): \(words.joined(separator: ", ")), "
            + (days[0] == days[1] ? "\(days[0])" : "\(days[0]) to \(days[1])")
    }

    /// `Mon, 23 Nov 2026 06:00:00 +0100`.
    private static func date(_ date: Date, _ zone: TimeZone) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = zone
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss Z"
        return formatter.string(from: date)
    }

    /// True for a dot-atom, alone or with a domain name (RFC 5322): a header can hold it as it is.
    private static func isPlain(_ address: String) -> Bool {
        let parts = address.utf8.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        guard parts.count <= 2, address.utf8.count <= 254, parts[0].count <= 64 else { return false }
        let lettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8
        func isDotted(_ text: Substring.UTF8View, _ others: String) -> Bool {
            text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { atom in
                !atom.isEmpty && atom.allSatisfy { lettersAndDigits.contains($0) || others.utf8.contains($0) }
            }
        }
        // Sendmail would read it as an option.
        guard parts[0].first != UInt8(ascii: "-") else { return false }
        return isDotted(parts[0], "!#$%&'*+-/=?^_`{|}~") && (parts.count == 1 || isDotted(parts[1], "-_"))
    }
}

/// Lines of a mail's header.
enum MailHeader {
    /// A folded header field of any text: unchanged if the text is printable ASCII, else in encoded words (RFC 2047).
    static func line(_ name: String, _ text: String) -> String {
        // A mail program would decode a text that looks like an encoded word.
        let isPlain = text.utf8.allSatisfy { (0x20...0x7E).contains($0) } && !text.contains("=?")
        let words = isPlain ? text.split(separator: " ").map(String.init) : encodedWords(text)
        var lines = ["\(name):"]
        for word in words {
            let line = lines[lines.count - 1]
            if line.utf8.count + 1 + word.utf8.count > 76, line.utf8.count > name.utf8.count + 1 {
                lines.append(" \(word)")
            } else {
                lines[lines.count - 1] = "\(line) \(word)"
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Encoded words of at most 63 bytes, each with whole characters.
    private static func encodedWords(_ text: String) -> [String] {
        var words: [String] = []
        var bytes: [UInt8] = []
        func end() {
            if !bytes.isEmpty { words.append("=?utf-8?B?\(Data(bytes).base64EncodedString())?=") }
            bytes = []
        }
        for scalar in text.unicodeScalars {
            let next = Array(String(scalar).utf8)
            if bytes.count + next.count > 39 { end() }
            bytes += next
        }
        end()
        return words
    }
}

/// Text in the quoted-printable encoding (RFC 2045, section 6.7).
enum QuotedPrintable {
    /// The encoded text, its lines ending with a line feed.
    static func encoded(_ text: String) -> String {
        text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .map { line(Array($0)) }.joined(separator: "\n")
    }

    private static func line(_ bytes: [UInt8]) -> String {
        var lines = ""
        var length = 0
        for (place, byte) in bytes.enumerated() {
            let isLast = place == bytes.count - 1
            let encoded: String
            switch byte {
            // Some programs take a dot at the beginning of a line for the end of a mail, and From for the beginning.
            case UInt8(ascii: ".") where length == 0, UInt8(ascii: "F") where length == 0: encoded = escaped(byte)
            case UInt8(ascii: "="): encoded = escaped(byte)
            case 0x21...0x7E: encoded = String(Unicode.Scalar(byte))
            case 0x20 where !isLast, 0x09 where !isLast: encoded = String(Unicode.Scalar(byte))
            default: encoded = escaped(byte)
            }
            if length + encoded.utf8.count > (isLast ? 76 : 75) {
                lines += "=\n"
                length = 0
            }
            lines += encoded
            length += encoded.utf8.count
        }
        return lines
    }

    private static func escaped(_ byte: UInt8) -> String { "=" + SafeText.hex(byte).uppercased() }
}
