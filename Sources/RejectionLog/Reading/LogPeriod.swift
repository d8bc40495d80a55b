public import Foundation
import GRDB
public import System

/// The recipients that a report is about: those of a period, all of them or those of one domain, reason or client.
public struct LogSelection: Sendable, Equatable {
    /// The beginning; rounded down to the minute, the unit of the counters.
    public var since: Date
    /// The end, not included; rounded up to the minute.
    public var until: Date
    /// Only this recipient domain (an A-label).
    public var domain: String?
    /// Only this reason.
    public var reason: String?
    /// Only this client, or the clients of this network. Only detail rows name the client, so the selection reaches
    /// back as far as the detail rows, and holds no accepted recipients.
    public var client: IPNetwork?

    /// Every recipient of the period, unless a domain, reason or client is given.
    public init(
        since: Date, until: Date, domain: String? = nil, reason: String? = nil, client: IPNetwork? = nil
    ) {
        self.since = since
        self.until = until
        self.domain = domain
        self.reason = reason
        self.client = client
    }

    /// The minutes `from ..< to` of the period, since 1970.
    package var minutes: (from: Int64, to: Int64) {
        let from = Timestamp.milliseconds(since1970: since) / 60_000
        let to = (Timestamp.milliseconds(since1970: until) + 59_999) / 60_000
        return (from, max(from, to))
    }
}

/// Numbers of recipients (RCPT commands), as the exact counters have them.
public struct RecipientTotals: Sendable, Equatable {
    /// Recipients rejected with a 5xx reply.
    public var refused = 0
    /// Recipients that the filter accepted.
    public var accepted = 0
    /// Recipients deferred with a 4xx reply.
    public var tempfailed = 0
    /// Recipients that observe mode accepted, and enforce mode would have rejected or deferred.
    public var observed = 0
    /// The recipients counted above that the MTA rejected or deferred itself, before it asked Postern.
    public var mtaRefused = 0
    /// The recipients counted above that have no detail row, because a flood left no room for it.
    public var thinned = 0

    /// Totals of an empty period, unless numbers are given.
    public init(
        refused: Int = 0, accepted: Int = 0, tempfailed: Int = 0, observed: Int = 0, mtaRefused: Int = 0,
        thinned: Int = 0
    ) {
        self.refused = refused
        self.accepted = accepted
        self.tempfailed = tempfailed
        self.observed = observed
        self.mtaRefused = mtaRefused
        self.thinned = thinned
    }
}

/// One selection of the log, read from one moment of the database: valid within
/// ``RejectionReader/withPeriod(_:_:)`` only.
package struct LogPeriod {
    /// The exact counts of a number of minutes.
    package struct Counts {
        package fileprivate(set) var totals = RecipientTotals()
        /// Rejected, deferred and observed recipients by reason.
        package fileprivate(set) var byReason: [String: Int] = [:]
        /// These recipients by the domain's id in the database.
        fileprivate var byDomain: [Int64: Int] = [:]
    }

    package let selection: LogSelection
    let db: Database
    private let reasons: [Int64: String]
    private let domainID: Int64?
    private let reasonID: Int64?

    /// A domain or reason that was never counted; no row has this id.
    private static let unknownID: Int64 = -2

    fileprivate init(_ db: Database, _ selection: LogSelection) throws {
        self.db = db
        self.selection = selection
        let reasonIDs = try db.reasonIDs()
        reasons = Dictionary(reasonIDs.map { ($1, $0) }) { first, _ in first }
        domainID = try selection.domain.map {
            try db.integer("SELECT id FROM domain WHERE name = ?", [$0]) ?? Self.unknownID
        }
        reasonID = selection.reason.map { reasonIDs[$0] ?? Self.unknownID }
    }

    // MARK: Counts

    /// The minute of the log's first count; nil in an empty log.
    package func firstMinute() throws -> Int64? {
        try db.integer("SELECT min(start) FROM counter WHERE unit = 0").map(Self.minute)
    }

    /// The minute after the log's newest count; nil in an empty log.
    package func endMinute() throws -> Int64? {
        try db.integer("SELECT max(start) FROM counter WHERE unit = 0").map { Self.minute($0) + 1 }
    }

    /// A minute within the times that the log can hold.
    private static func minute(_ value: Int64) -> Int64 { min(max(value, 0), CounterKey.maximumMinute) }

    /// The exact counts of the period.
    package func counts() throws -> Counts {
        let (from, to) = selection.minutes
        return try counts(from: from, to: to)
    }

    /// The exact counts of the period of the same length just before; nil where the log doesn't reach back that far.
    package func previousCounts() throws -> (from: Int64, to: Int64, counts: Counts)? {
        let (from, to) = selection.minutes
        let previous = from - (to - from)
        guard previous < from, let begin = try firstMinute(), begin <= previous else { return nil }
        if selection.client != nil, try detailsBegin() > previous * 60_000 { return nil }
        return (previous, from, try counts(from: previous, to: from))
    }

    /// The exact counts of the minutes `from ..< to`; counted from detail rows if a client is selected.
    private func counts(from: Int64, to: Int64) throws -> Counts {
        var counts = Counts()
        if selection.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                counts.add(
                    1, reason: reasons[row.reason] ?? "", outcome: row.outcome, observed: row.observed,
                    domain: row.domain)
            }
        } else {
            let columns = ["c.reason", "c.outcome", "c.observed", "c.domain"]
            try forEachCounter(from: from, to: to, columns) { row in
                counts.add(
                    try row.count(4), reason: reasons[try row.value(0)] ?? "",
                    outcome: Outcome(stored: try row.value(1)), observed: try row.value(2), domain: try row.value(3))
            }
        }
        for span in TimeUnit.spans(from: from, to: to) {
            counts.totals.thinned &+= try db.count(
                "SELECT sum(count) FROM thinned WHERE unit = ? AND start >= ? AND start < ?",
                [span.unit.rawValue, span.from, span.to])
        }
        let totals = counts.totals
        for total in [totals.refused, totals.tempfailed, totals.observed, totals.accepted, totals.mtaRefused] {
            _ = try StoredCount.positive(Int64(total))
        }
        // A foreign domain's count may have come and gone again within the period.
        counts.byReason = counts.byReason.filter { $0.value > 0 }
        return counts
    }

    /// The domains with the highest counts, highest first, equals in alphabetical order.
    package func topDomains(of counts: Counts, limit: Int) throws -> [(domain: String, count: Int)] {
        // Only domains that can be on the list are looked up, with all domains that have the count of its last place.
        let sorted = counts.byDomain.sorted { $0.value > $1.value }
        guard limit > 0, let least = sorted.prefix(limit).last?.value else { return [] }
        var list: [(domain: String, count: Int)] = []
        for (id, count) in sorted.prefix(while: { $0.value >= least }) where count > 0 {
            let name = try String.fetchOne(db, sql: "SELECT name FROM domain WHERE id = ?", arguments: [id])
            list.append((name ?? "", count))
        }
        return Array(list.sorted { ($1.count, $0.domain) < ($0.count, $1.domain) }.prefix(limit))
    }

    /// The recipients that observe mode accepted, by reason.
    package func observedByReason() throws -> [String: Int] {
        let (from, to) = selection.minutes
        var counts: [String: Int] = [:]
        if selection.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                if row.observed { counts[reasons[row.reason] ?? "", default: 0] &+= 1 }
            }
            return counts
        }
        try forEachCounter(from: from, to: to, ["c.reason"], and: "AND c.observed = 1 AND c.outcome <> 0") { row in
            counts[reasons[try row.value(0)] ?? "", default: 0] &+= try row.count(1)
        }
        return counts.filter { $0.value > 0 }
    }

    /// The verdicts in steps of the period.
    ///
    /// - Parameters:
    ///   - starts: the first minute of each step, ascending.
    ///   - areWholeDays: whether every step but the first begins at midnight UTC.
    ///   - areWholeHours: whether every step but the first begins at a full hour.
    package func verdicts(
        inSteps starts: [Int64], areWholeDays: Bool, areWholeHours: Bool
    ) throws -> [RejectionReader.Verdicts] {
        var steps = [RejectionReader.Verdicts](repeating: .init(), count: starts.count)
        guard !starts.isEmpty else { return [] }
        let (from, to) = selection.minutes
        if selection.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                steps[Self.place(of: row.time / 60_000, in: starts)].add(row.outcome, observed: row.observed, 1)
            }
            return steps
        }
        let largest: TimeUnit = areWholeDays ? .day : areWholeHours ? .hour : .minute
        let columns = ["c.start", "c.outcome", "c.observed"]
        try forEachCounter(from: from, to: to, columns, largest: largest) { row in
            steps[Self.place(of: try row.value(0), in: starts)].add(
                Outcome(stored: try row.value(1)), observed: try row.value(2), try row.count(3))
        }
        // A count is below zero where the count of a foreign domain was moved to another row.
        for place in steps.indices { steps[place].removeNegatives() }
        return steps
    }

    /// The place of the step that holds the minute; the first step for an earlier minute.
    private static func place(of minute: Int64, in starts: [Int64]) -> Int {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= minute { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }

    /// About how many detail rows of any domain and reason there are: the cost of reading them.
    func rowEstimate(from: Int64, to: Int64) throws -> Int {
        try db.count(
            "SELECT max(0, sum(count)) FROM counter WHERE unit = 1 AND start >= ? AND start < ? AND outcome <> 0",
            [from / 60_000, to / 60_000])
    }

    // MARK: Rows

    /// The time (milliseconds since 1970) from which all detail rows are there.
    func detailsBegin() throws -> Int64 {
        try db.state("details_from") ?? 0
    }

    /// Reads the selected detail rows of the milliseconds `from ..< to`.
    ///
    /// - Parameters:
    ///   - after: only rows with a higher id.
    ///   - through: only rows with this id or a lower one.
    func forEachDetail(
        from: Int64, to: Int64, after: Int64? = nil, through: Int64? = nil, _ body: (DetailRow) throws -> Void
    ) throws {
        var filter = "d.outcome <> 0"
        var arguments: StatementArguments = []
        if let after {
            // By id: the few newest rows.
            filter += " AND d.id > ? AND +d.time >= ? AND +d.time < ?"
            arguments += [after, from, to]
        } else {
            filter += " AND d.time >= ? AND d.time < ?"
            arguments += [from, to]
        }
        if let through {
            filter += " AND +d.id <= ?"
            arguments += [through]
        }
        if let client = selection.client {
            let first = client.range.lowerBound.stored
            filter += " AND length(d.client) = ? AND d.client BETWEEN ? AND ?"
            arguments += [first.count, first, client.range.upperBound.stored]
        }
        filter += idFilter("+d.", &arguments)
        try DetailRow.forEach(db, where: filter, arguments: arguments, body)
    }

    /// Reads the selected rows of a tally's days `from ..< to`, in no order.
    func forEachTally(
        _ kind: TallyKind, from: Int64, to: Int64, closed: Int64, _ body: (TallyRow) throws -> Void
    ) throws {
        for (table, first) in [("tally", from), ("open_tally", max(from, closed &+ 1))] where first < to {
            var arguments: StatementArguments = [kind.rawValue, first, to]
            let filter = "kind = ? AND day >= ? AND day < ?" + idFilter("", &arguments)
            let sql = "SELECT \(TallyRow.columns) FROM \(table) WHERE \(filter)"
            try RawRow.forEach(db, sql, arguments: arguments) {
                let row = TallyRow(row: $0)
                _ = try StoredCount.positive(row.count)
                try body(row)
            }
        }
    }

    /// Reads the selected counters of the minutes `from ..< to`, summed up: the columns, then the count.
    ///
    /// - Parameter condition: a further condition, after "AND".
    private func forEachCounter(
        from: Int64, to: Int64, _ columns: [String], and condition: String = "", largest: TimeUnit = .day,
        _ body: (Row) throws -> Void
    ) throws {
        let list = columns.joined(separator: ", ")
        for span in TimeUnit.spans(from: from, to: to, largest: largest) {
            var arguments: StatementArguments = [span.unit.rawValue, span.from, span.to]
            let filter = "c.unit = ? AND c.start >= ? AND c.start < ?" + idFilter("c.", &arguments)
            let rows = try Row.fetchCursor(
                db, sql: "SELECT \(list), sum(c.count) FROM counter c WHERE \(filter) \(condition) GROUP BY \(list)",
                arguments: arguments)
            while let row = try rows.next() { try body(row) }
        }
    }

    /// The condition for the selected domain and reason, whose ids it appends to the arguments.
    ///
    /// - Parameter prefix: the start of the columns' names; with "+", SQLite uses no index for them.
    private func idFilter(_ prefix: String, _ arguments: inout StatementArguments) -> String {
        var filter = ""
        for (column, id) in [("domain", domainID), ("reason", reasonID)] {
            guard let id else { continue }
            filter += " AND \(prefix)\(column) = ?"
            arguments += [id]
        }
        return filter
    }

    // MARK: Other tables

    /// Whether a recipient from the network was accepted since the beginning of the period; nil if it begins later.
    package func hasAccepted(from network: IPAddress) throws -> Bool? {
        try AcceptedNetworkStore.hasAccepted(db, from: network, since: selection.minutes.from / 1440)
    }

    /// The unlisted senders that have sent since the beginning of the period, also after its end, the latest first.
    package func unlistedSenders() throws -> [UnlistedSender] {
        try UnlistedSenderStore.all(db, since: selection.minutes.from / 1440)
    }

    /// The indexes that have come into force, oldest first, whatever the period.
    package func recordedIndexes() throws -> [RecordedIndex] { try RecordedIndex.all(db) }
}

extension LogPeriod.Counts {
    fileprivate mutating func add(_ count: Int, reason: String, outcome: Outcome, observed: Bool, domain: Int64) {
        switch outcome {
        case .accepted:
            totals.accepted &+= count
            return
        case _ where observed: totals.observed &+= count
        case .rejected: totals.refused &+= count
        case .deferred: totals.tempfailed &+= count
        }
        if reason == RejectionLog.mtaReason { totals.mtaRefused &+= count }
        byReason[reason, default: 0] &+= count
        if domain != 0 { byDomain[domain, default: 0] &+= count }
    }
}

extension RejectionReader {
    /// Reads a selection; the body reads one moment of the database.
    package func withPeriod<T>(_ selection: LogSelection, _ body: (LogPeriod) throws -> T) throws(LogError) -> T {
        try read { try body(LogPeriod($0, selection)) }
    }
}
