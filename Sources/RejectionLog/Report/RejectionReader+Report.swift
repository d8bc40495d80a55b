import Foundation
import GRDB
import System

extension RejectionReader {
    /// The report with all its sections, all from one moment of the database.
    public func report(
        _ query: ReportQuery, _ context: ReportContext = ReportContext()
    ) throws(LogError) -> RejectionReport {
        try read { try ReportBuilder(source: ReportSource($0, query), query: query, context: context).build() }
    }
}

/// Makes a report of what the database holds.
private struct ReportBuilder {
    let source: ReportSource
    let query: ReportQuery
    let context: ReportContext

    private var minutes: (from: Int64, to: Int64) { query.minutes }

    func build() throws -> RejectionReport {
        let counts = try source.counts(from: minutes.from, to: minutes.to)
        var tallies = try PeriodTallies(
            source, from: minutes.from * 60_000, to: minutes.to * 60_000, largeEdge: context.largeEdge)
        var report = RejectionReport(
            period: period(minutes.from, minutes.to), totals: counts.totals, byReason: counts.byReason, top: .init())
        report.cut = .init(
            domain: query.domain, reason: query.reason, client: query.client?.shortDescription, redacted: query.redact,
            foldsVERP: query.foldVERP)
        report.previous = try previous()
        report.trend = try ReportTrend(source: source, query: query, now: context.now).trend()
        let shown = ShownTallies(tallies, query)
        report.top = try top(counts, shown)
        report.table = try table(counts, shown)
        report.observed = try observed()
        report.mtaReplies = shown[.reply].top(query.top).map {
            .init(reply: shown[.reply].text($0), count: Int(shown[.reply].entries[$0].count))
        }
        var generations = try Generations(source.db)
        var analysis = ReportAnalysis(tallies: tallies, query: query, context: context)
        report.harvests = try analysis.harvests {
            try AcceptedNetworkStore.accepted(source.db, $0, since: minutes.from / 1440)
        }
        report.nearMisses = analysis.nearMisses()
        report.listedNow = analysis.listedNow(generations)
        report.correspondents = analysis.correspondents()
        let senders = try unlistedSenders()
        report.unlistedSenders = Array(senders.prefix(query.top))
        tallies.coverage.lookupsExhausted = analysis.isExhausted
        report.coverage = tallies.coverage
        report.sync = sync(&generations)
        report.findings = ReportFindings(
            report: report, analysis: analysis.sums, unlistedSenders: senders.count
        ).findings()
        return report
    }

    private func period(_ from: Int64, _ to: Int64) -> RejectionReport.Period {
        .init(
            since: Date(timeIntervalSince1970: Double(from * 60)), until: Date(timeIntervalSince1970: Double(to * 60)))
    }

    private func previous() throws -> RejectionReport.Previous? {
        let length = minutes.to - minutes.from
        let from = minutes.from - length
        guard length > 0, let begin = try source.begin(), begin <= from else { return nil }
        if query.client != nil {
            let details = try Int64.fetchOne(source.db, sql: "SELECT value FROM state WHERE name = 'details_from'")
            guard details ?? 0 <= from * 60_000 else { return nil }
        }
        let counts = try source.counts(from: from, to: minutes.from)
        return .init(period: period(from, minutes.from), totals: counts.totals, byReason: counts.byReason)
    }

    private func top(_ counts: PeriodCounts, _ tallies: ShownTallies) throws -> RejectionReport.Top {
        var top = RejectionReport.Top()
        top.recipients = tallies.rows(.recipient, query.top).map { .init(recipient: $0.value, count: $0.count) }
        top.senders = tallies.rows(.sender, query.top).map { .init(sender: $0.value, count: $0.count) }
        top.helos = tallies.rows(.helo, query.top).map { .init(helo: $0.value, count: $0.count) }
        top.clients = tallies.rows(.client, query.top).map {
            .init(client: $0.value, name: $0.name, count: $0.count)
        }
        top.networks = tallies.rows(.network, query.top).filter { !$0.value.isEmpty }
            .map { .init(network: $0.value, count: $0.count) }
        top.domains = try domains(counts).map { .init(domain: $0.0, count: $0.1) }
        return top
    }

    private func domains(_ counts: PeriodCounts) throws -> [(String, Int)] {
        // Names are looked up for those that can be on the list: the equals of its last place are among them.
        let sorted = counts.domains.sorted { $0.value > $1.value }
        guard query.top > 0, let least = sorted.prefix(query.top).last?.value else { return [] }
        var list: [(String, Int)] = []
        for (id, count) in sorted.prefix(while: { $0.value >= least }) where count > 0 {
            list.append((try source.domainName(id), count))
        }
        return Array(list.sorted { ($1.1, $0.0) < ($0.1, $1.0) }.prefix(query.top))
    }

    private func table(_ counts: PeriodCounts, _ tallies: ShownTallies) throws -> RejectionReport.Table? {
        guard let key = query.key else { return nil }
        let rows: [(String, Int)] =
            switch key {
            case .recipient: tallies.rows(.recipient, query.top).map { ($0.value, $0.count) }
            case .client: tallies.rows(.client, query.top).map { ($0.value, $0.count) }
            case .network: tallies.rows(.network, query.top).map { ($0.value, $0.count) }
            case .sender: tallies.rows(.sender, query.top).map { ($0.value, $0.count) }
            case .host: tallies.rows(.host, query.top).map { ($0.value, $0.count) }
            case .domain: try domains(counts)
            case .reason:
                counts.byReason.map { ($0.key, $0.value) }.sorted { ($1.1, $0.0) < ($0.1, $1.0) }
            case .hour, .day:
                try ReportTrend(source: source, query: query, now: context.now).steps(key == .hour ? .hour : .day)
                    .map { (Timestamp.seconds($0.start), $0.refusals) }
            }
        let all = counts.refusals
        let shown = rows.reduce(0) { $0 &+ $1.1 }
        return .init(
            key: key,
            rows: rows.map {
                .init(
                    value: $0.0, count: $0.1,
                    share: all > 0 ? (Double($0.1) / Double(all) * 100_000).rounded() / 1_000 : 0)
            }, others: max(0, all &- shown))
    }

    private func observed() throws -> [String: Int] {
        try source.observed(from: minutes.from, to: minutes.to)
    }

    /// Senders that have sent since the beginning of the period and aren't listed now. Those that went on after its end are among them: only the
    /// last day of each is known.
    private func unlistedSenders() throws -> [RejectionReport.UnlistedSender] {
        guard query.client == nil, query.reason.map(["unknown", "unlisted-sender"].contains) ?? true else { return [] }
        return try UnlistedSenderStore.all(source.db, since: minutes.from / 1440).filter { sender in
            var address = sender.address
            if let domain = query.domain, !address.hasSuffix("@\(domain)") { return false }
            return address.withUTF8 { context.isUnknown?($0) ?? true }
        }.map {
            .init(
                address: query.redact ? Redaction.redacted($0.address) : $0.address, count: $0.count,
                last: Timestamp.day($0.lastDay))
        }
    }

    private func sync(_ generations: inout Generations) -> RejectionReport.SyncHealth? {
        guard var sync = context.sync else { return nil }
        let (from, to) = (minutes.from * 60_000, minutes.to * 60_000)
        sync.changes = generations.all.filter { $0.time >= from && $0.time < to }.suffix(20).map {
            .init(
                time: Timestamp.date(milliseconds: $0.time), generation: Int($0.generation),
                recipients: Int($0.recipients))
        }
        return sync
    }
}

/// The indexes that came into force, oldest first.
struct Generations {
    let all: [IndexNote]

    init(_ db: Database) throws {
        all = try Row.fetchAll(
            db, sql: "SELECT time, generation, recipients, created FROM generation ORDER BY time, id"
        )
        .map {
            IndexNote(
                time: try $0.value(0), generation: try $0.value(1), recipients: try $0.value(2),
                created: try $0.value(3))
        }
    }

    /// When the first index after the time came into force; nil if there was none.
    func first(after time: Int64) -> Date? {
        all.first { $0.time > time }.map { Timestamp.date(milliseconds: $0.time) }
    }
}

/// Tallies as a report shows them: folded and redacted as it was asked for.
struct ShownTallies {
    /// A value as text.
    struct Row {
        var value: String
        var name: String
        var count: Int
    }

    private let tallies: PeriodTallies
    private var changed: [TallyKind: TallyTable] = [:]

    init(_ tallies: PeriodTallies, _ query: ReportQuery) {
        self.tallies = tallies
        if query.foldVERP || query.redact {
            changed[.sender] = tallies[.sender].folded { address in
                let folded = query.foldVERP ? SenderForm.folded(address) : address
                return query.redact ? Redaction.redacted(folded) : folded
            }
        }
        if query.redact { changed[.recipient] = tallies[.recipient].folded(Redaction.redacted) }
    }

    subscript(_ kind: TallyKind) -> TallyTable { changed[kind] ?? tallies[kind] }

    /// The most frequent values.
    func rows(_ kind: TallyKind, _ limit: Int) -> [Row] {
        let table = self[kind]
        return table.top(limit).map { position in
            let entry = table.entries[position]
            let value =
                switch kind {
                case .client: table.withValue(position) { IPAddress(stored: $0).clientText }
                case .network: table.withValue(position) { IPAddress(stored: $0).clientNetworkText }
                case .recipient, .sender, .helo, .host, .reply, .pair: table.text(position)
                }
            return Row(value: value, name: entry.name, count: Int(entry.count))
        }
    }
}
