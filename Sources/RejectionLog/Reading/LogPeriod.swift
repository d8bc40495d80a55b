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
    /// back as far as they do, and holds no accepted recipients.
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

    /// The period in minutes since 1970, the second one not included.
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
    /// Recipients that were accepted, or that the filter did not object to.
    public var accepted = 0
    /// Recipients deferred with a 4xx reply.
    public var tempfailed = 0
    /// Recipients that observe mode accepted, and enforce mode would have rejected or deferred.
    public var observed = 0
    /// Those of the rejected and deferred ones that the MTA refused itself, before it asked Postern.
    public var mtaRefused = 0
    /// Recipients that are counted above and have no detail row, because a flood left no room for it.
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
        /// The same by the domain's id in the database.
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
        var reasons: [Int64: String] = [:]
        for row in try Row.fetchAll(db, sql: "SELECT id, name FROM reason") {
            reasons[try row.value(0)] = try row.value(1) as String
        }
        self.reasons = reasons
        domainID = try selection.domain.map {
            try Int64.fetchOne(db, sql: "SELECT id FROM domain WHERE name = ?", arguments: [$0]) ?? Self.unknownID
        }
        reasonID = selection.reason.map { name in reasons.first { $0.value == name }?.key ?? Self.unknownID }
    }

    // MARK: Counts

    /// The minute of the log's first count; nil in an empty log.
    package func firstMinute() throws -> Int64? {
        try Int64.fetchOne(db, sql: "SELECT min(start) FROM counter WHERE unit = 0").map(Self.minute)
    }

    /// The minute after that of the log's newest count; nil in an empty log.
    package func endMinute() throws -> Int64? {
        try Int64.fetchOne(db, sql: "SELECT max(start) FROM counter WHERE unit = 0").map { Self.minute($0) + 1 }
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

    /// The exact counts of the minutes `from ..< to`; from detail rows where only these name the client.
    private func counts(from: Int64, to: Int64) throws -> Counts {
        var counts = Counts()
        if selection.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                counts.add(
                    reason: reasons[row.reason] ?? "", outcome: Self.outcome(row.outcome), observed: row.observed,
                    domain: row.domain, 1)
            }
        } else {
            for span in TimeUnit.spans(from: from, to: to) {
                let (filter, arguments) = counterFilter(span)
                let rows = try Row.fetchCursor(
                    db,
                    sql: """
                        SELECT c.reason, c.outcome, c.observed, c.domain, sum(c.count) FROM counter c
                        WHERE \(filter) GROUP BY 1, 2, 3, 4
                        """, arguments: arguments)
                while let row = try rows.next() {
                    counts.add(
                        reason: reasons[try row.value(0)] ?? "", outcome: Self.outcome(try row.value(1)),
                        observed: try row.value(2), domain: try row.value(3), try row.count(4))
                }
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
        // Only the names of domains that can be on the list are looked up: among them all that equal its last one.
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
        for span in TimeUnit.spans(from: from, to: to) {
            let (filter, arguments) = counterFilter(span)
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT c.reason, sum(c.count) FROM counter c
                    WHERE \(filter) AND c.observed = 1 AND c.outcome <> 0 GROUP BY 1
                    """, arguments: arguments)
            for row in rows { counts[reasons[try row.value(0)] ?? "", default: 0] &+= try row.count(1) }
        }
        return counts.filter { $0.value > 0 }
    }

    /// The verdicts in steps of the period.
    ///
    /// - Parameters:
    ///   - starts: the first minute of each step, ascending.
    ///   - areWholeDays: true where every step begins at midnight UTC, apart from the first.
    ///   - areWholeHours: true where every step begins at a full hour, apart from the first.
    package func verdicts(
        inSteps starts: [Int64], areWholeDays: Bool, areWholeHours: Bool
    ) throws -> [RejectionReader.Verdicts] {
        var steps = [RejectionReader.Verdicts](repeating: .init(), count: starts.count)
        guard !starts.isEmpty else { return [] }
        let (from, to) = selection.minutes
        if selection.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                steps[Self.place(of: row.time / 60_000, in: starts)].add(
                    Self.outcome(row.outcome), observed: row.observed, 1)
            }
            return steps
        }
        let largest: TimeUnit = areWholeDays ? .day : areWholeHours ? .hour : .minute
        for span in TimeUnit.spans(from: from, to: to, largest: largest) {
            let (filter, arguments) = counterFilter(span)
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT c.start, c.outcome, c.observed, sum(c.count) FROM counter c
                    WHERE \(filter) GROUP BY 1, 2, 3
                    """, arguments: arguments)
            while let row = try rows.next() {
                steps[Self.place(of: try row.value(0), in: starts)].add(
                    Self.outcome(try row.value(1)), observed: try row.value(2), try row.count(3))
            }
        }
        // A count is below zero where a foreign domain's was moved to another row.
        for place in steps.indices { steps[place].removeNegatives() }
        return steps
    }

    /// The place of the last start that isn't after the minute, or of the first.
    private static func place(of minute: Int64, in starts: [Int64]) -> Int {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= minute { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }

    /// About how many detail rows there are, of every domain and reason: the cost of reading them.
    func rowEstimate(from: Int64, to: Int64) throws -> Int {
        try db.count(
            "SELECT max(0, sum(count)) FROM counter WHERE unit = 1 AND start >= ? AND start < ? AND outcome <> 0",
            [from / 60_000, to / 60_000])
    }

    // MARK: Rows

    /// The time (milliseconds since 1970) from which all detail rows are there.
    func detailsBegin() throws -> Int64 {
        try Int64.fetchOne(db, sql: "SELECT value FROM state WHERE name = 'details_from'") ?? 0
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
        if let domainID {
            filter += " AND +d.domain = ?"
            arguments += [domainID]
        }
        if let reasonID {
            filter += " AND +d.reason = ?"
            arguments += [reasonID]
        }
        if let client = selection.client {
            let first = client.range.lowerBound.stored
            filter += " AND length(d.client) = ? AND d.client BETWEEN ? AND ?"
            arguments += [first.count, first, client.range.upperBound.stored]
        }
        try DetailRow.forEach(db, where: filter, arguments, body)
    }

    /// Reads the selected rows of a tally's days `from ..< to`, in no order.
    func forEachTally(
        _ kind: TallyKind, from: Int64, to: Int64, closed: Int64, _ body: (TallyRow) throws -> Void
    ) throws {
        for (table, first) in [("tally", from), ("open_tally", max(from, closed &+ 1))] where first < to {
            var filter = "kind = ? AND day >= ? AND day < ?"
            var arguments: StatementArguments = [kind.rawValue, first, to]
            if let domainID {
                filter += " AND domain = ?"
                arguments += [domainID]
            }
            if let reasonID {
                filter += " AND reason = ?"
                arguments += [reasonID]
            }
            let statement = try db.makeStatement(
                sql: "SELECT \(TallyRow.columns) FROM \(table) WHERE \(filter)")
            try statement.setArguments(arguments)
            try RawRows.forEach(statement) {
                let row = TallyRow(handle: $0)
                _ = try StoredCount.positive(row.count)
                try body(row)
            }
        }
    }

    private static func outcome(_ value: Int64) -> Outcome {
        UInt8(exactly: value).flatMap(Outcome.init(rawValue:)) ?? .rejected
    }

    private func counterFilter(_ span: TimeUnit.Span) -> (String, StatementArguments) {
        var filter = "c.unit = ? AND c.start >= ? AND c.start < ?"
        var arguments: StatementArguments = [span.unit.rawValue, span.from, span.to]
        if let domainID {
            filter += " AND c.domain = ?"
            arguments += [domainID]
        }
        if let reasonID {
            filter += " AND c.reason = ?"
            arguments += [reasonID]
        }
        return (filter, arguments)
    }

    // MARK: Other tables

    /// True where a recipient from the network was accepted since the beginning of the period; nil where the log
    /// doesn't reach back that far.
    package func hasAccepted(from network: IPAddress) throws -> Bool? {
        try AcceptedNetworkStore.accepted(db, network, since: selection.minutes.from / 1440)
    }

    /// The senders that have sent since the beginning of the period without being listed, those first that have sent
    /// last.
    ///
    /// Only the last day of each is known, so senders that went on after the end of the period are among them.
    package func unlistedSenders() throws -> [UnlistedSender] {
        try UnlistedSenderStore.all(db, since: selection.minutes.from / 1440)
    }

    /// The indexes that have come into force, oldest first, whatever the period.
    package func recordedIndexes() throws -> [RecordedIndex] { try RecordedIndex.all(db) }
}

extension LogPeriod.Counts {
    /// Adds a number of recipients.
    fileprivate mutating func add(reason: String, outcome: Outcome, observed: Bool, domain: Int64, _ count: Int) {
        switch outcome {
        case .accepted:
            totals.accepted &+= count
            return
        case .rejected, .deferred:
            if reason == RejectionLog.mtaReason { totals.mtaRefused &+= count }
            if observed {
                totals.observed &+= count
            } else if outcome == .rejected {
                totals.refused &+= count
            } else {
                totals.tempfailed &+= count
            }
        }
        byReason[reason, default: 0] &+= count
        if domain != 0 { byDomain[domain, default: 0] &+= count }
    }
}

extension RejectionReader {
    /// Reads a selection; everything that the body reads is of one moment of the database.
    package func withPeriod<T>(_ selection: LogSelection, _ body: (LogPeriod) throws -> T) throws(LogError) -> T {
        try read { try body(LogPeriod($0, selection)) }
    }
}
