public import Foundation

/// A report as a ready mail: multipart/alternative with the text and the HTML form (RFC 5322, RFC 2045, RFC 2046), lines
/// ending with a line feed, as sendmail(1) takes it.
public struct ReportMail: Sendable {
    /// An address that can't stand in a header as it is.
    public struct AddressError: Error, Sendable, Equatable, CustomStringConvertible {
        /// What was given.
        public let address: String

        /// The sentence, with what is accepted.
        public var description: String {
            "\"\(SafeText.fitted(SafeText.escaped(address), 80))\" is not an address that a report can be sent to or from; "
                + "accepted are plain ones like postmaster@example.com or root, in ASCII"
        }
    }

    /// The sender.
    let from: String
    /// The recipients.
    let recipients: [String]
    /// The gateway's name.
    let host: String

    /// - Parameters:
    ///   - from: the sender, a plain address.
    ///   - recipients: whom it is for, plain addresses, at least one.
    ///   - host: the gateway's name, for the subject and the heading.
    public init(from: String, to recipients: [String], host: String) throws(AddressError) {
        for address in [from] + recipients {
            guard Self.isPlain(address) else { throw AddressError(address: address) }
        }
        guard !recipients.isEmpty else { throw AddressError(address: "") }
        self.from = from
        self.recipients = recipients
        self.host = host
    }

    /// The whole message.
    ///
    /// - Parameters:
    ///   - timeZone: the zone of the times shown.
    ///   - now: its date.
    ///   - identifier: what makes its Message-ID and its boundary unique: letters and digits.
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
            // RFC 3834, and what Exchange goes by: no answers of absence.
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

    /// Letters and digits that no other message has.
    public static func unique() -> String {
        String(UInt64(max(0, Date().timeIntervalSince1970)), radix: 36)
            + String(UInt64.random(in: 0...UInt64.max), radix: 36)
    }

    /// What is most pressing, how much was refused, and when: for a list of many mails.
    private func subject(_ report: RejectionReport, _ zone: TimeZone) -> String {
        let days = [report.period.since, report.period.until].map { Timestamp.local($0, zone).prefix(10) }
        var words: [String] = []
        if !report.findings.isEmpty { words.append(ReportWords.findings(report.findings)) }
        words.append("\(ReportWords.grouped(report.refusals)) refused")
        if let domain = report.cut.domain { words.append("domain \(SafeText.escaped(domain))") }
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

    /// True for a dot-atom, alone or at a domain name (RFC 5322), which no header takes for anything else.
    private static func isPlain(_ address: String) -> Bool {
        let parts = address.utf8.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        guard parts.count <= 2, address.utf8.count <= 254, parts[0].count <= 64 else { return false }
        func isLetterOrDigit(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: false
            }
        }
        func isDotted(_ text: Substring.UTF8View, _ others: String) -> Bool {
            text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { atom in
                !atom.isEmpty && atom.allSatisfy { isLetterOrDigit($0) || others.utf8.contains($0) }
            }
        }
        // A sendmail would take it for an option.
        guard parts[0].first != UInt8(ascii: "-") else { return false }
        return isDotted(parts[0], "!#$%&'*+-/=?^_`{|}~") && (parts.count == 1 || isDotted(parts[1], "-_"))
    }
}
