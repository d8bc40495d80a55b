extension RejectionReport {
    /// The report with every local part hidden, in prose and foreign texts too: `*@example.com`.
    ///
    /// What a client gives as HELO, host name or reply is hidden where it is an address, and so is every address of the
    /// report where it stands in a text.
    public var redacted: RejectionReport {
        var report = self
        let hiding = Hiding(addresses)
        report.cut.redacted = true
        report.top.recipients = Self.merged(top.recipients.map { (Redaction.redacted($0.recipient), $0.count) })
            .map { Recipient(recipient: $0, count: $1) }
        report.top.senders = Self.merged(top.senders.map { (Redaction.redacted($0.sender), $0.count) })
            .map { Sender(sender: $0, count: $1) }
        report.top.helos = Self.merged(top.helos.map { (hiding.text($0.helo), $0.count) })
            .map { Helo(helo: $0, count: $1) }
        report.top.domains = top.domains.map { Domain(domain: hiding.text($0.domain), count: $0.count) }
        for place in report.top.clients.indices {
            report.top.clients[place].name = hiding.text(top.clients[place].name)
        }
        for place in nearMisses.indices {
            report.nearMisses[place].recipient = Redaction.redacted(nearMisses[place].recipient)
            report.nearMisses[place].resembles = Redaction.redacted(nearMisses[place].resembles)
            report.nearMisses[place].difference = hiding.text(nearMisses[place].difference)
        }
        for place in listedNow.indices {
            report.listedNow[place].recipient = Redaction.redacted(listedNow[place].recipient)
        }
        for place in unlistedSenders.indices {
            report.unlistedSenders[place].address = Redaction.redacted(unlistedSenders[place].address)
        }
        for place in harvests.indices { report.harvests[place].name = hiding.text(harvests[place].name) }
        for place in correspondents.indices {
            report.correspondents[place].sender = Redaction.redacted(correspondents[place].sender)
            report.correspondents[place].recipient = Redaction.redacted(correspondents[place].recipient)
        }
        report.mtaReplies = Self.merged(mtaReplies.map { (hiding.text($0.reply), $0.count) })
            .map { MTAReply(reply: $0, count: $1) }
        for place in findings.indices {
            report.findings[place].text = hiding.text(findings[place].text)
            report.findings[place].action = hiding.text(findings[place].action)
        }
        if let refused = sync?.refused { report.sync?.refused?.text = hiding.text(refused.text) }
        for (place, source) in (sync?.sources ?? []).enumerated() {
            report.sync?.sources[place].failure = source.failure.map(hiding.text)
        }
        if let table, table.key == .recipient || table.key == .sender {
            report.table?.rows = Self.merged(table.rows)
        }
        return report
    }

    /// Every address in the report's lists.
    private var addresses: Set<String> {
        var all = Set(top.recipients.map(\.recipient) + top.senders.map(\.sender))
        all.formUnion(nearMisses.flatMap { [$0.recipient, $0.resembles] })
        all.formUnion(listedNow.map(\.recipient))
        all.formUnion(unlistedSenders.map(\.address))
        all.formUnion(correspondents.flatMap { [$0.sender, $0.recipient] })
        if let table, table.key == .recipient || table.key == .sender { all.formUnion(table.rows.map(\.value)) }
        return all
    }

    /// Equals in one row, most frequent first, equals in alphabetical order.
    private static func merged(_ rows: [(String, Int)]) -> [(String, Int)] {
        rows.reduce(into: [String: Int]()) { $0[$1.0, default: 0] &+= $1.1 }
            .map { ($0.key, $0.value) }.sorted { ($1.1, $0.0) < ($0.1, $1.0) }
    }

    private static func merged(_ rows: [Table.Row]) -> [Table.Row] {
        var shares: [String: Double] = [:]
        for row in rows { shares[Redaction.redacted(row.value), default: 0] += row.share }
        return merged(rows.map { (Redaction.redacted($0.value), $0.count) })
            .map { Table.Row(value: $0.0, count: $0.1, share: shares[$0.0] ?? 0) }
    }
}

/// Hides local parts within texts.
private struct Hiding {
    /// Longest first, so that none hides the rest of another.
    private let addresses: [String]

    init(_ addresses: Set<String>) {
        self.addresses = addresses.filter { $0.count > 2 && Redaction.redacted($0) != $0 }
            .sorted { ($1.count, $0) < ($0.count, $1) }
    }

    func text(_ text: String) -> String {
        var text = text
        // Those that are known first: a hostile one may hold spaces.
        for address in addresses where address.contains("@") && text.contains(address) {
            text = text.replacing(address, with: Redaction.redacted(address))
        }
        return Redaction.redactedWithin(text)
    }
}

extension Redaction {
    /// The text with the local part of everything in it that looks like an address replaced by `*`: what is before an `@` up
    /// to a space or an enclosing sign, a quoted string as a whole.
    static func redactedWithin(_ text: String) -> String {
        var result: [Unicode.Scalar] = []
        for scalar in text.unicodeScalars {
            if scalar == "@" { hideLocalPart(&result) }
            result.append(scalar)
        }
        return String(String.UnicodeScalarView(result))
    }

    private static func hideLocalPart(_ text: inout [Unicode.Scalar]) {
        let end = text.count
        if text.last == "\"" {
            text.removeLast()
            // Back to the quote that isn't itself quoted; where there is none, everything goes.
            while let last = text.popLast(), last != "\"" || text.last == "\\" {}
        } else {
            while let last = text.last, !" \t\r\n<>()[],;:".unicodeScalars.contains(last) { text.removeLast() }
        }
        if text.count < end { text.append("*") }
    }
}
