import Foundation
public import RejectionLog
import System

extension RejectionReader {
    /// Makes a report with all its sections, all from one moment of the database.
    public func report(
        _ query: ReportQuery, _ context: ReportContext = ReportContext()
    ) throws(LogError) -> RejectionReport {
        try withPeriod(query.selection) { period in
            var builder = try ReportBuilder(period, query, context: context)
            return try builder.build()
        }
    }
}

/// Makes a report of what the log holds; each section is a function of its own.
struct ReportBuilder {
    typealias Section = ReportSection
    typealias Column = ReportSection.Column
    typealias Cell = ReportSection.Cell

    let period: LogPeriod
    let query: ReportQuery
    let context: ReportContext
    let counts: LogPeriod.Counts
    let tallies: PeriodTallies
    let indexes: [RecordedIndex]
    /// The hashes of the networks that guessed recipients.
    let guessers: Set<UInt32>
    /// True once the index could not be asked for every near miss.
    var lookupsExhausted = false

    init(_ period: LogPeriod, _ query: ReportQuery, context: ReportContext) throws {
        self.period = period
        self.query = query
        self.context = context
        counts = try period.counts()
        tallies = try period.tallies(subtractionThreshold: context.subtractionThreshold)
        indexes = try period.recordedIndexes()
        guessers = Self.guessers(tallies[.network])
    }

    mutating func build() throws -> RejectionReport {
        let (from, to) = query.selection.minutes
        var report = RejectionReport(
            figures: .init(period: Self.period(from, to), totals: counts.totals, byReason: counts.byReason))
        if let (from, to, counts) = try period.previousCounts() {
            report.previous = .init(period: Self.period(from, to), totals: counts.totals, byReason: counts.byReason)
        }
        report.filters = .init(
            domain: query.selection.domain, reason: query.selection.reason,
            client: query.selection.client?.shortDescription, redacted: query.redact, foldsVERP: query.foldVERP)
        report.trend = try ReportTrend(period, zone: query.timeZone, now: context.now)
        report.sections = try sections()
        report.advice = [noIndex(), surge(report), thinned()].compactMap(\.self)
        report.coverage = .init(
            detailsSince: tallies.gaps.detailsSince, wholeDays: tallies.gaps.wholeDays, folded: tallies.gaps.folded,
            lookupsExhausted: lookupsExhausted)
        return query.redact ? report.redacted : report
    }

    /// The sections in the order in which people read them.
    private mutating func sections() throws -> [Section] {
        let shown = FoldedTallies(tallies, query)
        var sections = [
            try unlistedSenders(), nearMisses(), listedNow(), try harvests(), correspondents(), try observed(),
            mtaReplies(shown),
        ]
        sections += sync()
        if let key = query.key { sections.append(try table(key, shown)) }
        return sections + (try rankings(shown))
    }

    private static func period(_ from: Int64, _ to: Int64) -> RejectionReport.Period {
        .init(
            since: Date(timeIntervalSince1970: Double(from * 60)), until: Date(timeIntervalSince1970: Double(to * 60)))
    }

    // MARK: Counts

    /// The recipients that observe mode accepted, by reason.
    private func observed() throws -> Section {
        let counts = try period.observedByReason().sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        var section = Section(
            "observed", title: "Observe mode",
            note: "Recipients accepted in observe mode that enforce mode would have rejected or deferred.",
            form: .counts,
            columns: [
                .number(), .init("reason", "Reason", as: .name, at: .key), .init("", "Meaning", as: .text, at: .beside),
            ],
            rows: counts.map { .init([.count($0.value), .text($0.key), .text(ReportWords.meaning(of: $0.key))]) })
        let all = self.counts.totals.observed
        if all > 0 {
            section.advise(
                .observed,
                "\(ReportWords.count(all, "recipient")) \(all == 1 ? "was" : "were") accepted only because of observe mode.",
                action: "If the sections below name nobody who should get mail, set mode = \"enforce\" in [policy]."
            )
        }
        return section
    }

    /// The replies by which the MTA itself rejected recipients.
    private func mtaReplies(_ shown: FoldedTallies) -> Section {
        var section = Section(
            "mta_replies", title: "Rejected by the MTA",
            note: "Replies of the MTA's own restrictions, before it asked Postern.",
            columns: [.number(), .init("reply", "Reply", as: .text, at: .key)],
            rows: shown.top(.reply, query.top).map { .init([.count($0.count), .text($0.value)]) })
        let count = counts.totals.mtaRefused
        let all = counts.totals.refused &+ counts.totals.tempfailed
        if count > 0, Double(count) * 10 >= Double(all) {
            section.advise(
                .mta,
                "The MTA itself rejected \(ReportWords.count(count, "recipient")), before it asked Postern.",
                action:
                    "Read its replies below. Blocklists and sender checks are to be expected; the MTA's log says more about "
                    + "any other reply.")
        }
        return section
    }

    /// The rejections by one key (`--by`).
    private func table(_ key: ReportQuery.Key, _ shown: FoldedTallies) throws -> Section {
        func tallied(_ kind: TallyKind) -> [(Cell, Int)] {
            shown.top(kind, query.top).map { (.text($0.value), $0.count) }
        }
        let rows: [(value: Cell, count: Int)] =
            switch key {
            case .recipient: tallied(.recipient)
            case .client: tallied(.client)
            case .network: tallied(.network)
            case .sender: tallied(.sender)
            case .host: tallied(.host)
            case .domain: try period.topDomains(of: counts, limit: query.top).map { (.text($0.domain), $0.count) }
            case .reason:
                counts.byReason.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { (.text($0.key), $0.value) }
            case .hour, .day:
                try ReportTrend(
                    period, unit: key == .hour ? .hour : .day, zone: query.timeZone, now: context.now
                ).steps.map { (.time($0.start), $0.refusals) }
            }
        return .table(key, rows: rows, of: counts.byReason.values.reduce(0, &+))
    }

    /// The most frequent recipients, domains, clients, networks, senders and HELO names.
    private func rankings(_ shown: FoldedTallies) throws -> [Section] {
        func rows(_ kind: TallyKind) -> [Section.Row] {
            shown.top(kind, query.top).map { .init([.count($0.count), .text($0.value)]) }
        }
        return [
            .ranking(
                "recipients", title: "Top recipients", of: .init("recipient", "Recipient", as: .address, at: .key),
                rows: rows(.recipient)),
            .ranking(
                "domains", title: "Top domains", of: .init("domain", "Domain", as: .name, at: .key),
                rows: try period.topDomains(of: counts, limit: query.top).map {
                    .init([.count($0.count), .text($0.domain)])
                }),
            .ranking(
                "clients", title: "Top clients", of: .init("client", "Client", as: .name, at: .key, empty: "unknown"),
                rows: shown.top(.client, query.top).map { .init([.count($0.count), .text($0.value), .text($0.name)]) },
                beside: .init("name", "Name", as: .name, at: .beside)),
            .ranking(
                "networks", title: "Top networks", of: .init("network", "Network", as: .name, at: .key),
                rows: rows(.network).filter { $0.cells[1] != .text("") }),
            .ranking(
                "senders", title: "Top senders", of: .init("sender", "Sender", as: .address, at: .key, empty: "<>"),
                rows: rows(.sender)),
            .ranking(
                "helos", title: "Top HELO names", of: .init("helo", "HELO name", as: .name, at: .key), rows: rows(.helo)
            ),
        ]
    }

    private func surge(_ report: RejectionReport) -> ReportFinding? {
        guard let previous = report.previous else { return nil }
        let (now, before) = (report.figures.totals.refused, previous.totals.refused)
        guard now >= 1_000, now / 3 >= max(before, 1) else { return nil }
        return .init(
            .surge,
            "\(ReportWords.grouped(now)) recipients were rejected, against \(ReportWords.grouped(before)) in the period before.",
            action: "See where they came from with \"postern report --by network\" and \"postern report --by reason\".")
    }

    private func thinned() -> ReportFinding? {
        let count = counts.totals.thinned
        guard count > 0 else { return nil }
        return .init(
            .thinned,
            "During a flood, Postern counted \(ReportWords.count(count, "rejection")) without keeping log entries; "
                + "the lists below lack \(count == 1 ? "it" : "them").",
            action: "Nothing to do: the totals are exact.")
    }
}

extension ReportSection {
    /// A list of the most frequent values of a column.
    static func ranking(
        _ name: String, title: String, of key: Column, rows: [Row], beside: Column? = nil
    ) -> ReportSection {
        ReportSection(
            "top.\(name)", title: title, style: .ranking, columns: [.number(), key] + (beside.map { [$0] } ?? []),
            rows: rows)
    }

    /// The table of `--by`; `all` is the sum of which the rows are a part.
    static func table(_ key: ReportQuery.Key, rows: [(value: Cell, count: Int)], of all: Int) -> ReportSection {
        let kind: Column.Kind =
            switch key {
            case .recipient, .sender: .address
            case .hour: .time
            case .day: .day
            case .domain, .client, .network, .reason, .host: .name
            }
        let name = key.rawValue
        let title = name.prefix(1).uppercased() + name.dropFirst()
        return ReportSection(
            "table", title: "By \(name)", style: .bars,
            form: .table(key: name, others: max(0, all &- rows.reduce(0) { $0 &+ $1.count })),
            columns: [
                .number(), .init("share", "Share", as: .share),
                .init(
                    "value", title, as: kind, at: .key, csv: name,
                    empty: key == .sender ? "<>" : key == .client ? "unknown" : "-"),
            ],
            rows: rows.map {
                let share = all > 0 ? (Double($0.count) / Double(all) * 100_000).rounded() / 1_000 : 0
                return .init([.count($0.count), .share(share), $0.value])
            })
    }
}

/// Tallies as a report shows them: with senders folded, and local parts hidden, if the query asks for it.
struct FoldedTallies {
    private let tallies: PeriodTallies
    private var changed: [TallyKind: TallyTable] = [:]

    init(_ tallies: PeriodTallies, _ query: ReportQuery) {
        self.tallies = tallies
        if query.foldVERP || query.redact {
            changed[.sender] = tallies[.sender].folded { address in
                let folded = query.foldVERP ? SenderAddress.folded(address) : address
                return query.redact ? Redaction.redacted(folded) : folded
            }
        }
        if query.redact { changed[.recipient] = tallies[.recipient].folded(Redaction.redacted) }
    }

    /// The most frequent values of a kind, with the newest host name of a client.
    func top(_ kind: TallyKind, _ limit: Int) -> [(value: String, name: String, count: Int)] {
        let table = changed[kind] ?? tallies[kind]
        return table.top(limit).map { position in
            let tally = table.tallies[position]
            let value =
                switch kind {
                case .client: table.withValue(position) { IPAddress(stored: $0).clientText }
                case .network: table.withValue(position) { IPAddress(stored: $0).clientNetworkText }
                case .recipient, .sender, .helo, .host, .reply, .pair: table.text(position)
                }
            return (value, tally.name, Int(tally.count))
        }
    }
}
