import Foundation
import GRDB

extension RejectionReader {
    /// The report's figures, all from one moment of the database.
    public func report(_ query: ReportQuery) throws(LogError) -> RejectionReport {
        try read { try ReportBuilder(db: $0, query: query).build() }
    }
}

/// Asks the database for a report's figures.
private struct ReportBuilder {
    let db: Database
    let query: ReportQuery

    private var minutes: (from: Int64, to: Int64) { query.minutes }

    func build() throws -> RejectionReport {
        let period = RejectionReport.Period(
            since: Date(timeIntervalSince1970: Double(minutes.from * 60)),
            until: Date(timeIntervalSince1970: Double(minutes.to * 60)))
        var report = RejectionReport(period: period, totals: .init(), byReason: [:], top: .init())
        try count(&report)
        report.top.domains = try domains()
        report.top.recipients = try details(hidden("d.recipient")).map { .init(recipient: $0.0, count: $0.1) }
        report.top.senders = try details(hidden("d.sender")).map { .init(sender: $0.0, count: $0.1) }
        report.top.helos = try details("d.helo").map { .init(helo: $0.0, count: $0.1) }
        report.top.clients = try clients()
        return report
    }

    private func count(_ report: inout RejectionReport) throws {
        for span in TimeUnit.spans(from: minutes.from, to: minutes.to) {
            let (filter, arguments) = counterFilter(span)
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT r.name, c.outcome, c.observed, sum(c.count)
                    FROM counter c JOIN reason r ON r.id = c.reason
                    WHERE \(filter) GROUP BY c.reason, c.outcome, c.observed
                    """, arguments: arguments)
            while let row = try rows.next() {
                enter(
                    reason: try row.value(0), outcome: Outcome(rawValue: try row.value(1)) ?? .refused,
                    observed: try row.value(2), try row.value(3), &report)
            }
            report.totals.thinned &+=
                try Int.fetchOne(
                    db, sql: "SELECT sum(count) FROM thinned WHERE unit = ? AND start >= ? AND start < ?",
                    arguments: [span.unit.rawValue, span.from, span.to]) ?? 0
        }
    }

    private func enter(
        reason: String, outcome: Outcome, observed: Bool, _ count: Int, _ report: inout RejectionReport
    ) {
        switch outcome {
        case .accepted:
            report.totals.accepted &+= count
            return
        case .refused, .tempfailed:
            if reason == RejectionLog.mtaReason { report.totals.mtaRefused &+= count }
            if observed {
                report.totals.observed &+= count
            } else if outcome == .refused {
                report.totals.refused &+= count
            } else {
                report.totals.tempfailed &+= count
            }
        }
        if count > 0 { report.byReason[reason, default: 0] &+= count }
    }

    private func counterFilter(_ span: TimeUnit.Span) -> (String, StatementArguments) {
        var filter = "c.unit = ? AND c.start >= ? AND c.start < ?"
        var arguments: StatementArguments = [span.unit.rawValue, span.from, span.to]
        if let domain = query.domain {
            filter += " AND c.domain = (SELECT id FROM domain WHERE name = ?)"
            arguments += [domain]
        }
        if let reason = query.reason {
            filter += " AND c.reason = (SELECT id FROM reason WHERE name = ?)"
            arguments += [reason]
        }
        return (filter, arguments)
    }

    private func domains() throws -> [RejectionReport.Domain] {
        var counts: [Int64: Int] = [:]
        for span in TimeUnit.spans(from: minutes.from, to: minutes.to) {
            let (filter, arguments) = counterFilter(span)
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT c.domain, sum(c.count) FROM counter c
                    WHERE \(filter) AND c.outcome <> 0 AND c.domain <> 0 GROUP BY c.domain
                    """, arguments: arguments)
            while let row = try rows.next() { counts[try row.value(0), default: 0] &+= try row.value(1) }
        }
        // Names are looked up for those that can be on the list: the equals of its last place are among them.
        let sorted = counts.sorted { $0.value > $1.value }
        guard query.top > 0, let least = sorted.prefix(query.top).last?.value else { return [] }
        var list: [RejectionReport.Domain] = []
        for (id, count) in sorted.prefix(while: { $0.value >= least }) where count > 0 {
            let name = try String.fetchOne(db, sql: "SELECT name FROM domain WHERE id = ?", arguments: [id])
            list.append(.init(domain: name ?? "", count: count))
        }
        return Array(list.sorted { ($1.count, $0.domain) < ($0.count, $1.domain) }.prefix(query.top))
    }

    private func detailFilter() -> (String, StatementArguments) {
        var filter = "d.time >= ? AND d.time < ? AND d.outcome <> 0"
        var arguments: StatementArguments = [minutes.from * 60_000, minutes.to * 60_000]
        if let domain = query.domain {
            filter += " AND d.domain = (SELECT id FROM domain WHERE name = ?)"
            arguments += [domain]
        }
        if let reason = query.reason {
            filter += " AND d.reason = (SELECT id FROM reason WHERE name = ?)"
            arguments += [reason]
        }
        return (filter, arguments)
    }

    private func details(_ column: String) throws -> [(String, Int)] {
        let (filter, arguments) = detailFilter()
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT \(column) AS value, count(*) AS n FROM detail d
                WHERE \(filter) GROUP BY value ORDER BY n DESC, value LIMIT ?
                """, arguments: arguments + [max(query.top, 0)])
        return try rows.map { (try $0.value(0), try $0.value(1)) }
    }

    private func clients() throws -> [RejectionReport.Client] {
        let (filter, arguments) = detailFilter()
        // max(id) makes SQLite take the other columns of the group from the newest row.
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT d.client AS value, count(*) AS n, d.client_name, max(d.id) FROM detail d
                WHERE \(filter) GROUP BY value ORDER BY n DESC, value LIMIT ?
                """, arguments: arguments + [max(query.top, 0)])
        return try rows.map { row in
            let client: Data = try row.optional(0) ?? Data()
            return .init(
                client: client.withUnsafeBytes { LogAddress(stored: $0).description }, name: try row.value(2),
                count: try row.value(1))
        }
    }

    /// The SQL for an address, its local part hidden if that is wanted.
    private func hidden(_ column: String) -> String {
        query.redact ? "redacted(\(column))" : column
    }
}
