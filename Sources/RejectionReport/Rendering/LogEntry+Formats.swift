import Foundation
public import RejectionLog

extension LogEntry: Encodable {
    /// The JSON form: `time` in ISO 8601 (UTC, milliseconds), `outcome` "refused" or "tempfailed", the texts unescaped.
    public func encode(to encoder: any Encoder) throws {
        let fields: JSONValue.Fields = [
            "id": .number(Int(id)), "time": .text(TimeText.milliseconds(time)), "outcome": .text(outcome.name),
            "observed": .flag(observed), "reason": .text(reason), "recipient": .text(recipient),
            "domain": .text(domain), "sender": .text(sender), "client": .text(client),
            "client_name": .text(clientName), "helo": .text(helo), "session": .text(session),
            "authenticated": .flag(authenticated), "mta": .text(mta), "reply": .text(reply),
        ]
        try JSONValue.fields(fields).encode(to: encoder)
    }

    /// One line of JSON without its line end.
    public func jsonLine() -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }

    /// One line of text without its line end:
    ///
    ///     2026-11-24T10:00:00.123Z rejected unknown to=<r> from=<s> client=name[address] helo=<h> id=q reply="550 …"
    ///
    /// The time is UTC. The second word is `rejected` or `deferred`, with `observed:` before it where observe mode
    /// accepted the recipient. `auth=yes` and `mta=<…>` stand before the reply where they are known. Unsafe characters,
    /// spaces and the enclosing characters (`<>`, `[]`, `"`) are written like `\x3c`, so that no value looks like
    /// another field; only the reply, which is last, keeps its spaces.
    public func textLine() -> String {
        var line = TimeText.milliseconds(time)
        line += (observed ? " observed:" : " ") + (outcome == .deferred ? "deferred" : "rejected")
        line += " " + word(reason)
        line += " to=<\(inside(recipient))> from=<\(inside(sender))>"
        line += " client=\(clientName.isEmpty ? "unknown" : word(clientName))[\(client.isEmpty ? "unknown" : client)]"
        line += " helo=<\(inside(helo))>"
        line += " id=\(session.isEmpty ? "-" : word(session))"
        if authenticated { line += " auth=yes" }
        if !mta.isEmpty { line += " mta=<\(inside(mta))>" }
        line += " reply=\"\(SafeText.escaped(reply, delimiters: "\""))\""
        return line
    }

    /// One line of text for a mail log, without its line end, in the form of Postfix's own lines:
    ///
    ///     NOQUEUE: reject: RCPT from mail.example[192.0.2.1]: 550 5.1.1 <x@y>: …; from=<a@b> to=<x@y> helo=<h> reason=unknown
    ///
    /// The first word is the queue id, or NOQUEUE before the MTA has assigned one. `reject_warning:` in place of
    /// `reject:` means that observe mode accepted the recipient. `auth=yes` and `mta=<…>` stand at the end where they
    /// are known.
    ///
    /// No value looks like another field, or like the end of its own. Everywhere a backslash is written `\\`, and
    /// characters that aren't plainly visible are written as in ``textLine()``. Between `<` and `>` a space, `<`, `>`
    /// and `;` are written like `\x3b`; in a word also `[`, `]`, `=`, `"` and `:`; in the reply `<`, `>`, `;` and `=`,
    /// except around the recipient, which the reply may hold between `<` and `>`. So the reply ends at the first `;`.
    public func mailLogLine() -> String {
        func word(_ text: String) -> String { SafeText.escaped(text, delimiters: " []<>=\":;") }
        func inside(_ text: String) -> String { SafeText.escaped(text, delimiters: " <>;") }
        var line = session.isEmpty ? "NOQUEUE" : word(session)
        line += observed ? ": reject_warning: " : ": reject: "
        line += "RCPT from \(clientName.isEmpty ? "unknown" : word(clientName))"
        line += "[\(client.isEmpty ? "unknown" : client)]: "
        line += replyParts.map { part, isRecipient in
            isRecipient ? "<\(inside(part))>" : SafeText.escaped(part, delimiters: "<>;=")
        }.joined()
        line += "; from=<\(inside(sender))> to=<\(inside(recipient))> helo=<\(inside(helo))> reason=\(word(reason))"
        if authenticated { line += " auth=yes" }
        if !mta.isEmpty { line += " mta=<\(inside(mta))>" }
        return line
    }

    /// The reply in parts: before, between and after the `<` and `>` around the recipient, if it repeats the recipient.
    private var replyParts: [(text: String, isRecipient: Bool)] {
        guard !recipient.isEmpty, let place = reply.range(of: "<\(recipient)>", options: .literal) else {
            return [(reply, false)]
        }
        return [
            (String(reply[..<place.lowerBound]), false), (recipient, true), (String(reply[place.upperBound...]), false),
        ]
    }

    /// The entry with the local parts of all addresses hidden, also in its reply.
    public func redacted() -> LogEntry {
        var entry = self
        entry.recipient = Redaction.redacted(recipient)
        entry.sender = Redaction.redacted(sender)
        entry.reply = Redaction.redacted(text: reply, holding: recipient)
        return entry
    }

    /// The entry with all characters spelled out in its texts that aren't plainly visible, such as `\\x1b` and
    /// `\\u{202e}`.
    public func visible() -> LogEntry {
        var entry = self
        let texts: [WritableKeyPath<LogEntry, String>] = [
            \.recipient, \.domain, \.sender, \.clientName, \.helo, \.session, \.mta, \.reply,
        ]
        for text in texts { entry[keyPath: text] = SafeText.escaped(entry[keyPath: text]) }
        return entry
    }

    private func inside(_ text: String) -> String {
        SafeText.escaped(text, delimiters: " <>")
    }

    private func word(_ text: String) -> String {
        SafeText.escaped(text, delimiters: " []<>=\"")
    }
}
