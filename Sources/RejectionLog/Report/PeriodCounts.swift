import Foundation
import GRDB
import System

/// The exact counts of a period, cut as the query says: from the counters, or from detail rows where only these know.
struct PeriodCounts {
    var totals = RejectionReport.Totals()
    var byReason: [String: Int] = [:]
    /// Refused, put off or observed, by the id of the domain.
    var domains: [Int64: Int] = [:]

    /// One sum of counters.
    mutating func add(reason: String, outcome: Outcome, observed: Bool, domain: Int64, _ count: Int) {
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
        if domain != 0 { domains[domain, default: 0] &+= count }
    }

    /// What was not in the recipient's favour.
    var refusals: Int { byReason.values.reduce(0, &+) }
}

/// What the database holds for a query, and how it is asked for it.
struct ReportSource {
    let db: Database
    let query: ReportQuery
    let reasons: [Int64: String]
    private let domainID: Int64?
    private let reasonID: Int64?

    init(_ db: Database, _ query: ReportQuery) throws {
        self.db = db
        self.query = query
        var reasons: [Int64: String] = [:]
        for row in try Row.fetchAll(db, sql: "SELECT id, name FROM reason") {
            reasons[try row.value(0)] = try row.value(1) as String
        }
        self.reasons = reasons
        // -1 is no row's: a name that was never counted finds nothing.
        domainID = try query.domain.map {
            try Int64.fetchOne(db, sql: "SELECT id FROM domain WHERE name = ?", arguments: [$0]) ?? -2
        }
        reasonID = query.reason.map { name in reasons.first { $0.value == name }?.key ?? -2 }
    }

    /// The minute of the first count; nil in an empty log.
    func begin() throws -> Int64? {
        try Int64.fetchOne(db, sql: "SELECT min(start) FROM counter WHERE unit = 0").map(Self.minute)
    }

    /// The minute after that of the newest count; nil in an empty log.
    func newestMinute() throws -> Int64? {
        try Int64.fetchOne(db, sql: "SELECT max(start) FROM counter WHERE unit = 0").map { Self.minute($0) + 1 }
    }

    /// A minute within what the log can hold.
    private static func minute(_ value: Int64) -> Int64 { min(max(value, 0), CounterKey.maximumMinute) }

    /// What observe mode let pass, by reason.
    func observed(from: Int64, to: Int64) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        if query.client != nil {
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

    func domainName(_ id: Int64) throws -> String {
        try String.fetchOne(db, sql: "SELECT name FROM domain WHERE id = ?", arguments: [id]) ?? ""
    }

    /// The counts of the minutes `from ..< to`.
    func counts(from: Int64, to: Int64) throws -> PeriodCounts {
        var counts = PeriodCounts()
        if query.client != nil {
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

    /// How many refusals there are about, whatever the cut: what reading their rows will cost.
    func rowEstimate(from: Int64, to: Int64) throws -> Int {
        try db.count(
            "SELECT max(0, sum(count)) FROM counter WHERE unit = 1 AND start >= ? AND start < ? AND outcome <> 0",
            [from / 60_000, to / 60_000])
    }

    /// Counts by the minute at which their unit starts; units not larger than `largest`.
    func forEachStart(
        from: Int64, to: Int64, largest: TimeUnit,
        _ body: (_ minute: Int64, _ outcome: Outcome, _ observed: Bool, _ count: Int) -> Void
    ) throws {
        if query.client != nil {
            try forEachDetail(from: from * 60_000, to: to * 60_000) { row in
                body(row.time / 60_000, Self.outcome(row.outcome), row.observed, 1)
            }
            return
        }
        for span in TimeUnit.spans(from: from, to: to, largest: largest) {
            let (filter, arguments) = counterFilter(span)
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT c.start, c.outcome, c.observed, sum(c.count) FROM counter c
                    WHERE \(filter) GROUP BY 1, 2, 3
                    """, arguments: arguments)
            while let row = try rows.next() {
                body(try row.value(0), Self.outcome(try row.value(1)), try row.value(2), try row.count(3))
            }
        }
    }

    /// Detail rows of the milliseconds `from ..< to` within the query's cut.
    ///
    /// - Parameters:
    ///   - after: only those with a higher id.
    ///   - through: only those with an id not higher.
    func forEachDetail(
        from: Int64, to: Int64, after: Int64? = nil, through: Int64? = nil, _ body: (DetailRow) throws -> Void
    ) throws {
        var filter = "d.outcome <> 0"
        var arguments: StatementArguments = []
        if let after {
            // By id: the few newest ones.
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
        if let client = query.client {
            let (first, last) = (client.range.lowerBound.stored, client.range.upperBound.stored)
            filter += " AND length(d.client) = ? AND d.client BETWEEN ? AND ?"
            arguments += [last.count, first, last]
        }
        try DetailRow.forEach(db, where: filter, arguments, body)
    }

    /// Rows of a tally's days `from ..< to` within the query's cut, in no order.
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
}
