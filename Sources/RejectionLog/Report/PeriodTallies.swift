import Foundation
import GRDB

/// What the refusals of a period have in common: the tallies of its whole days, and detail rows for the rest.
struct PeriodTallies {
    private var tables: [TallyTable]
    private let reasons: TallyReasons
    var coverage = RejectionReport.Coverage()

    subscript(_ kind: TallyKind) -> TallyTable { tables[Int(kind.rawValue)] }

    /// The tallies of the milliseconds `from ..< to`; `largeEdge` as in ``ReportContext``.
    init(_ source: ReportSource, from: Int64, to: Int64, largeEdge: Int) throws {
        let db = source.db
        tables = TallyKind.allCases.map { _ in TallyTable() }
        reasons = try TallyReasons(db)
        let detailsFrom = try Int64.fetchOne(db, sql: "SELECT value FROM state WHERE name = 'details_from'") ?? 0
        if detailsFrom > 0 { coverage.detailsSince = Timestamp.date(milliseconds: detailsFrom) }
        guard from < to else { return }
        if source.query.client != nil {
            // The tallies don't know which client was refused what.
            try addDetails(source, from: from, to: to)
            return
        }

        let mark = try Tallier.mark(db)
        let newest = try Int64.fetchOne(db, sql: "SELECT max(time) FROM detail WHERE id <= ?", arguments: [mark])
        let day: Int64 = 86_400_000
        var first = (from + day - 1) / day
        // A day is whole too when nothing of it can come after the period.
        var last = newest.map { to > $0 } ?? false ? Int64(UInt32.max) : to / day
        var edges: [(from: Int64, to: Int64)] = []
        if first > last {
            edges.append((from, to))
            (first, last) = (0, 0)
        } else {
            if from < first * day { edges.append((from, min(first * day, to))) }
            if last * day < to { edges.append((last * day, to)) }
        }
        for edge in edges {
            let start = edge.from / day * day
            // To look values up and subtract is several times quicker than to add new ones.
            if start >= detailsFrom, (edge.to - edge.from) * 4 > day,
                try source.rowEstimate(from: edge.from, to: edge.to) >= largeEdge
            {
                try addDay(source, start, less: [(start, edge.from), (edge.to, start + day)], through: mark)
            } else if edge.from >= detailsFrom {
                try addDetails(source, from: edge.from, to: edge.to, through: mark)
            } else {
                // The rows are gone: the day belongs to the period if most of it does.
                coverage.wholeDays = true
                let number = edge.from / day
                if (edge.to - edge.from) * 2 >= day { try addTallies(source, from: number, to: number + 1) }
            }
        }
        if first < last { try addTallies(source, from: first, to: last) }
        try addDetails(source, from: from, to: to, after: mark)
        coverage.folded = try db.count(
            "SELECT sum(count) FROM folded WHERE kind = ? AND day >= ? AND day < ?",
            [TallyKind.recipient.rawValue, from / day, (to + day - 1) / day])
    }

    /// A day's tallies without the rows of some parts of it. Of what is left, the sketches and times are those of the day.
    private mutating func addDay(
        _ source: ReportSource, _ start: Int64, less parts: [(from: Int64, to: Int64)], through: Int64
    ) throws {
        var whole = PeriodTallies(reasons: reasons)
        try whole.addTallies(source, from: start / 86_400_000, to: start / 86_400_000 + 1)
        var scratch: [UInt8] = []
        for part in parts where part.from < part.to {
            try source.forEachDetail(from: part.from, to: part.to, through: through) { row in
                let (reason, time) = (row.reason, row.time)
                TallyKind.forEachItem(row, reasons, &scratch) { item in
                    let kind = Int(item.kind.rawValue)
                    guard let position = whole.tables[kind].known(item.value) else { return }
                    whole.tables[kind].update(position) { reasons.enter(reason, -1, time, time, &$0) }
                }
            }
        }
        let (from, to) = (parts.first?.to ?? start, parts.last?.from ?? start)
        for kind in TallyKind.allCases {
            let part = whole[kind]
            for (position, entry) in part.entries.enumerated() where entry.count > 0 {
                part.withValue(position) { value in
                    let place = tables[Int(kind.rawValue)].position(of: value)
                    tables[Int(kind.rawValue)].update(place) {
                        var entry = entry
                        // One that was only at other times of the day has no time of its own.
                        if entry.first <= entry.last {
                            entry.first = min(max(entry.first, from), to)
                            entry.last = min(max(entry.last, from), to)
                        }
                        $0.merge(entry, kind)
                    }
                }
            }
        }
    }

    private init(reasons: TallyReasons) {
        tables = TallyKind.allCases.map { _ in TallyTable() }
        self.reasons = reasons
    }

    private mutating func addTallies(_ source: ReportSource, from: Int64, to: Int64) throws {
        let closed = try Tallier.closedDays(source.db)
        for kind in TallyKind.allCases {
            var table = TallyTable()
            swap(&table, &tables[Int(kind.rawValue)])
            let reasons = reasons
            try source.forEachTally(kind, from: from, to: to, closed: closed[kind] ?? 0) { row in
                let reason = row.reason
                let (count, first, last) = (row.count, row.first, row.last)
                table.update(table.position(of: row.value)) { entry in
                    reasons.enter(reason, count, first, last, &entry)
                    if kind.peerLimit > 0 { entry.peers.merge(row.peers, limit: kind.peerLimit) }
                    if kind.networkLimit > 0 { entry.networks.merge(row.networks, limit: kind.networkLimit) }
                    if kind.isNamed { entry.takeName(row.name) }
                }
            }
            swap(&table, &tables[Int(kind.rawValue)])
        }
    }

    private mutating func addDetails(
        _ source: ReportSource, from: Int64, to: Int64, after: Int64? = nil, through: Int64? = nil
    ) throws {
        var scratch: [UInt8] = []
        var tables: [TallyTable] = []
        swap(&tables, &self.tables)
        defer { swap(&tables, &self.tables) }
        try source.forEachDetail(from: from, to: to, after: after, through: through) { row in
            let (reason, time) = (row.reason, row.time)
            TallyKind.forEachItem(row, reasons, &scratch) { item in
                let kind = Int(item.kind.rawValue)
                let position = tables[kind].position(of: item.value)
                tables[kind].update(position) { entry in
                    reasons.enter(reason, 1, time, time, &entry)
                    entry.take(item)
                }
            }
        }
    }
}

extension TallyReasons {
    /// Adds a number of refusals for one reason.
    fileprivate func enter(
        _ reason: Int64, _ count: Int64, _ first: Int64, _ last: Int64, _ entry: inout TallyTable.Entry
    ) {
        entry.count &+= count
        switch reason {
        case unknown: entry.unknown &+= count
        case relay: entry.relay &+= count
        case harvest: entry.harvest &+= count
        default: if !personal.contains(reason) { return }
        }
        entry.first = min(entry.first, first)
        entry.last = max(entry.last, last)
    }
}
