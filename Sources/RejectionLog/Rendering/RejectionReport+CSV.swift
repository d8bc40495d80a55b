import Foundation

extension RejectionReport {
    /// The report as CSV (RFC 4180: a heading, CRLF, quoted where need be), in UTF-8, times in ISO 8601 (UTC).
    ///
    /// Without a table (`--by`) it is one long table: `section` says what a line is about, `key` what it stands for, and the
    /// other columns have the names of the JSON form; those that a section doesn't have are empty. With a table it is that
    /// table alone: the key, `count` and `share` (percent), with a last line `(others)` for what is in none of the rows.
    ///
    /// Values are escaped as in the text form; one that a spreadsheet would take for a formula has an apostrophe in front
    /// (OWASP, CSV injection).
    public func csv() -> String {
        if let table { return Self.csv(table) }
        var lines = [CSVColumn.allCases.map(\.rawValue)]
        for record in records {
            lines.append(CSVColumn.allCases.map { record[$0] ?? "" })
        }
        return CSV.text(lines)
    }

    private static func csv(_ table: Table) -> String {
        let all = table.rows.reduce(table.others) { $0 &+ $1.count }
        var lines = [[table.key.rawValue, "count", "share"]]
        for row in table.rows {
            let value = table.key == .sender && row.value.isEmpty ? "<>" : row.value
            lines.append([CSV.safe(value), "\(row.count)", CSV.number(row.share)])
        }
        if table.others > 0 {
            lines.append(["(others)", "\(table.others)", CSV.number(Double(table.others) / Double(max(all, 1)) * 100)])
        }
        return CSV.text(lines)
    }
}

/// Records of RFC 4180.
enum CSV {
    /// The records, each with its line end.
    static func text(_ records: [[String]]) -> String {
        records.map { $0.map(field).joined(separator: ",") + "\r\n" }.joined()
    }

    /// A hostile value that is neither a formula to a spreadsheet nor a control sequence to a terminal.
    static func safe(_ value: String) -> String {
        let text = SafeText.escaped(value)
        // The full-width forms are formulas to a spreadsheet of East Asia.
        guard let first = text.unicodeScalars.first, "=+-@\t\r＝＋－＠".unicodeScalars.contains(first) else { return text }
        return "'" + text
    }

    /// A number of percent, to a thousandth.
    static func number(_ value: Double) -> String {
        let thousandths = ReportWords.integer(value * 1000)
        let rest = String(abs(thousandths % 1000))
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
    }

    private static func field(_ value: String) -> String {
        let isPlain = value.unicodeScalars.allSatisfy { !"\",\r\n;\t".unicodeScalars.contains($0) }
        guard !isPlain || value.hasPrefix(" ") || value.hasSuffix(" ") else { return value }
        // By scalars: a mark that joins with the quote before it would hide it from a search by characters.
        var quoted = "\""
        for scalar in value.unicodeScalars {
            quoted.unicodeScalars.append(scalar)
            if scalar == "\"" { quoted.unicodeScalars.append(scalar) }
        }
        quoted.unicodeScalars.append("\"")
        return quoted
    }
}

/// The columns of the long table.
enum CSVColumn: String, CaseIterable {
    case section, key, related, count, previous, share
    case refused, tempfailed, observed, accepted
    case recipients, senders, clients, days, stopped, generation
    case first, last, listed
    case asOf = "as_of"
    case late, age, text, action
    case estimated, accepting
}

extension RejectionReport {
    private typealias Record = [CSVColumn: String]

    fileprivate var records: [[CSVColumn: String]] {
        var records: [Record] = [
            [.section: "period", .first: Timestamp.seconds(period.since), .last: Timestamp.seconds(period.until)]
        ]
        if let previous {
            records.append([
                .section: "previous_period", .first: Timestamp.seconds(previous.period.since),
                .last: Timestamp.seconds(previous.period.until),
            ])
        }
        records += cutRecords
        records += findings.map {
            [
                .section: "findings", .key: $0.code, .related: $0.level.rawValue, .text: CSV.safe($0.text),
                .action: CSV.safe($0.action),
            ]
        }
        records += totalRecords
        records += reasonLines.map { reason, count, before in
            var record = self.record("by_reason", reason, count)
            record[.share] = share(count, of: refusals)
            record[.previous] = before.map(String.init)
            return record
        }
        records += trend.steps.map {
            [
                .section: "trend", .key: trend.unit.rawValue, .first: Timestamp.seconds($0.start),
                .refused: "\($0.refused)", .tempfailed: "\($0.tempfailed)", .observed: "\($0.observed)",
                .accepted: "\($0.accepted)",
            ]
        }
        return records + sectionRecords + syncRecords + coverageRecords + topRecords
    }

    private var cutRecords: [Record] {
        let parts: [(String, String?)] = [
            ("domain", cut.domain), ("reason", cut.reason), ("client", cut.client),
            ("redacted", cut.redacted ? "true" : nil), ("verp_folded", cut.foldsVERP ? "true" : nil),
        ]
        return parts.compactMap { key, value in
            value.map { [.section: "cut", .key: key, .text: CSV.safe($0)] }
        }
    }

    private var totalRecords: [Record] {
        let parts: [(String, Int, Int?)] = [
            ("refused", totals.refused, previous?.totals.refused),
            ("tempfailed", totals.tempfailed, previous?.totals.tempfailed),
            ("observed", totals.observed, previous?.totals.observed),
            ("accepted", totals.accepted, previous?.totals.accepted),
            ("mta_refused", totals.mtaRefused, previous?.totals.mtaRefused),
            ("thinned", totals.thinned, previous?.totals.thinned),
        ]
        return parts.map { key, count, before in
            var record = self.record("totals", key, count)
            record[.previous] = before.map(String.init)
            if key != "thinned" { record[.share] = share(count, of: asked) }
            return record
        }
    }

    private var sectionRecords: [Record] {
        var records: [Record] = nearMisses.map {
            var record = self.record("near_misses", $0.recipient, $0.count, $0.first, $0.last)
            record[.related] = CSV.safe($0.resembles)
            record[.senders] = "\($0.senders)"
            if $0.sendersEstimated { record[.estimated] = "senders" }
            record[.text] = CSV.safe($0.difference)
            return record
        }
        records += listedNow.map {
            var record = self.record("listed_now", $0.recipient, $0.count, $0.first, $0.last)
            record[.listed] = $0.listed.map(Timestamp.seconds)
            record[.late] = "\($0.late)"
            return record
        }
        records += unlistedSenders.map {
            var record = self.record("unlisted_senders", $0.address, $0.count)
            record[.last] = $0.last
            return record
        }
        records += harvests.map {
            var record = self.record("harvests", $0.network, $0.attempts, $0.first, $0.last)
            record[.related] = CSV.safe($0.name)
            record[.clients] = "\($0.clients)"
            record[.recipients] = "\($0.recipients)"
            if $0.recipientsEstimated { record[.estimated] = "recipients" }
            record[.accepting] = $0.accepted.map { $0 ? "true" : "false" }
            record[.stopped] = "\($0.stopped)"
            return record
        }
        records += correspondents.map {
            var record = self.record("correspondents", named($0.sender), $0.count, $0.first, $0.last)
            record[.related] = CSV.safe($0.recipient)
            record[.days] = "\($0.days)"
            return record
        }
        records += observed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { record("observed", $0.key, $0.value) }
        return records + mtaReplies.map { record("mta_replies", $0.reply, $0.count) }
    }

    private var syncRecords: [Record] {
        guard let sync else { return [] }
        var index: Record = [
            .section: "sync", .key: sync.isStale ? "stale" : "in_force", .recipients: "\(sync.recipients)",
            .age: "\(sync.ahead > 0 ? -sync.ahead : sync.age)",
        ]
        index[.asOf] = sync.created.map(Timestamp.seconds)
        if sync.created == nil { index[.key] = "none" }
        var records = [index]
        if let refused = sync.refused {
            records.append([
                .section: "sync_refused", .asOf: Timestamp.seconds(refused.time), .recipients: "\(refused.removed)",
                .text: CSV.safe(refused.text),
                .key: refused.acceptable ? "acceptable" : "not_acceptable",
            ])
        }
        records += sync.sources.map {
            var record: Record = [
                .section: "sync_sources", .key: CSV.safe($0.name), .recipients: "\($0.recipients)",
            ]
            record[.asOf] = $0.asOf.map(Timestamp.seconds)
            record[.text] = $0.failure.map(CSV.safe)
            return record
        }
        return records
            + sync.changes.map {
                [
                    .section: "sync_changes", .asOf: Timestamp.seconds($0.time), .generation: "\($0.generation)",
                    .recipients: "\($0.recipients)",
                ]
            }
    }

    private var coverageRecords: [Record] {
        var records: [Record] = [record("coverage", "folded", coverage.folded)]
        if let since = coverage.detailsSince {
            records.append([.section: "coverage", .key: "details_since", .first: Timestamp.seconds(since)])
        }
        for (key, isSet) in [("whole_days", coverage.wholeDays), ("lookups_exhausted", coverage.lookupsExhausted)]
        where isSet {
            records.append([.section: "coverage", .key: key, .text: "true"])
        }
        return records
    }

    private var topRecords: [Record] {
        var records = top.recipients.map { record("top_recipients", $0.recipient, $0.count) }
        records += top.domains.map { record("top_domains", $0.domain, $0.count) }
        records += top.clients.map { client in
            var record = self.record("top_clients", client.client, client.count)
            record[.related] = CSV.safe(client.name)
            return record
        }
        records += top.networks.map { record("top_networks", $0.network, $0.count) }
        records += top.senders.map { record("top_senders", named($0.sender), $0.count) }
        return records + top.helos.map { record("top_helos", $0.helo, $0.count) }
    }

    private func record(
        _ section: String, _ key: String, _ count: Int, _ first: Date? = nil, _ last: Date? = nil
    ) -> Record {
        var record: Record = [.section: section, .key: CSV.safe(key), .count: "\(count)"]
        record[.first] = first.map(Timestamp.seconds)
        record[.last] = last.map(Timestamp.seconds)
        return record
    }

    private func share(_ part: Int, of all: Int) -> String {
        all > 0 ? CSV.number(Double(part) / Double(all) * 100) : ""
    }

    private func named(_ sender: String) -> String { sender.isEmpty ? "<>" : sender }
}
