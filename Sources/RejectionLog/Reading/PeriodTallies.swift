package import Foundation
import GRDB

/// The rejections of a period by recipient, sender, client and so on: from the tallies of its whole days, and from
/// detail rows for the rest.
package struct PeriodTallies {
    /// The data that the tallies of a period lack.
    package struct Gaps {
        /// The time from which all detail rows are there; nil if no detail row was pruned.
        package var detailsSince: Date?
        /// Whether the period begins or ends within a day whose detail rows were pruned: the tallies hold the whole day
        /// if most of it is in the period, else nothing of it.
        package var wholeDays = false
        /// Rejections of recipients that were not among the most frequent of their day: no tally has these.
        package var folded = 0
    }

    private var tables: [TallyTable]
    private let reasons: TallyReasons
    /// The data that these tallies lack.
    package private(set) var gaps = Gaps()

    /// The tallies of one kind.
    package subscript(_ kind: TallyKind) -> TallyTable { tables[Int(kind.rawValue)] }

    fileprivate init(_ source: LogPeriod, from: Int64, to: Int64, subtractionThreshold: Int) throws {
        let db = source.db
        tables = TallyKind.allCases.map { _ in TallyTable() }
        reasons = try TallyReasons(db)
        let detailsFrom = try source.detailsBegin()
        if detailsFrom > 0 { gaps.detailsSince = Timestamp.date(milliseconds: detailsFrom) }
        guard from < to else { return }
        if source.selection.client != nil {
            // Tallies by recipient or sender don't name the client.
            try addDetails(source, from: from, to: to)
            return
        }

        let mark = try Tallier.mark(db)
        let newest = try db.integer("SELECT max(time) FROM detail WHERE id <= ?", [mark])
        let day = Timestamp.day
        var first = (from + day - 1) / day
        // The last day is whole, too, if it has no rows after the period.
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
            // Subtracting from present values is several times faster than adding new ones.
            if start >= detailsFrom, (edge.to - edge.from) * 4 > day,
                try source.rowEstimate(from: edge.from, to: edge.to) >= subtractionThreshold
            {
                try addDay(source, start: start, less: [(start, edge.from), (edge.to, start + day)], through: mark)
            } else if edge.from >= detailsFrom {
                try addDetails(source, from: edge.from, to: edge.to, through: mark)
            } else {
                // The rows were pruned: the day belongs to the period if most of it does.
                gaps.wholeDays = true
                let number = edge.from / day
                if (edge.to - edge.from) * 2 >= day { try addTallies(source, from: number, to: number + 1) }
            }
        }
        if first < last { try addTallies(source, from: first, to: last) }
        try addDetails(source, from: from, to: to, after: mark)
        gaps.folded = try db.count(
            "SELECT sum(count) FROM folded WHERE kind = ? AND day >= ? AND day < ?",
            [TallyKind.recipient.rawValue, from / day, (to + day - 1) / day])
    }

    /// Adds a day's tallies without the rows of some parts of the day. Sketches and times are those of the whole day.
    private mutating func addDay(
        _ source: LogPeriod, start: Int64, less parts: [(from: Int64, to: Int64)], through: Int64
    ) throws {
        var whole = PeriodTallies(reasons: reasons)
        try whole.addTallies(source, from: start / Timestamp.day, to: start / Timestamp.day + 1)
        var scratch: [UInt8] = []
        for part in parts where part.from < part.to {
            try source.forEachDetail(from: part.from, to: part.to, through: through) { row in
                let (reason, time) = (row.reason, row.time)
                TallyKind.forEachItem(of: row, reasons: reasons, scratch: &scratch) { item in
                    let kind = Int(item.kind.rawValue)
                    guard let position = whole.tables[kind].existingPosition(of: item.value) else { return }
                    whole.tables[kind].update(position) { $0.add(-1, of: reason, in: reasons, from: time, to: time) }
                }
            }
        }
        let (from, to) = (parts.first?.to ?? start, parts.last?.from ?? start)
        for kind in TallyKind.allCases {
            let (part, index) = (whole[kind], Int(kind.rawValue))
            for (position, entry) in part.tallies.enumerated() where entry.count > 0 {
                part.withValue(position) { value in
                    tables[index].update(tables[index].position(of: value)) {
                        var entry = entry
                        // A value that came in the day's other parts only has no time here.
                        if entry.first <= entry.last {
                            entry.first = min(max(entry.first, from), to)
                            entry.last = min(max(entry.last, from), to)
                        }
                        $0.merge(entry, sketchesOf: kind)
                    }
                }
            }
        }
    }

    private init(reasons: TallyReasons) {
        tables = TallyKind.allCases.map { _ in TallyTable() }
        self.reasons = reasons
    }

    /// Adds the tallies of the days `from ..< to`.
    private mutating func addTallies(_ source: LogPeriod, from: Int64, to: Int64) throws {
        let closed = try Tallier.closedDays(source.db)
        for kind in TallyKind.allCases {
            var table = TallyTable()
            swap(&table, &tables[Int(kind.rawValue)])
            defer { swap(&table, &tables[Int(kind.rawValue)]) }
            try source.forEachTally(kind, from: from, to: to, closed: closed[kind] ?? 0) { row in
                table.update(table.position(of: row.value)) { entry in
                    entry.add(row.count, of: row.reason, in: reasons, from: row.first, to: row.last)
                    if kind.peerLimit > 0 { entry.peers.merge(row.peers, limit: kind.peerLimit) }
                    if kind.networkLimit > 0 { entry.networks.merge(row.networks, limit: kind.networkLimit) }
                    if kind.isNamed { entry.setName(row.name) }
                }
            }
        }
    }

    /// Adds the detail rows of the milliseconds `from ..< to`.
    private mutating func addDetails(
        _ source: LogPeriod, from: Int64, to: Int64, after: Int64? = nil, through: Int64? = nil
    ) throws {
        var scratch: [UInt8] = []
        var tables: [TallyTable] = []
        swap(&tables, &self.tables)
        defer { swap(&tables, &self.tables) }
        try source.forEachDetail(from: from, to: to, after: after, through: through) { row in
            let (reason, time) = (row.reason, row.time)
            TallyKind.forEachItem(of: row, reasons: reasons, scratch: &scratch) { item in
                let kind = Int(item.kind.rawValue)
                let position = tables[kind].position(of: item.value)
                tables[kind].update(position) { entry in
                    entry.add(1, of: reason, in: reasons, from: time, to: time)
                    entry.addDetails(of: item)
                }
            }
        }
    }
}

extension LogPeriod {
    /// The period's rejections by recipient, sender, client and so on.
    ///
    /// - Parameter subtractionThreshold: the number of rejections above which a part of a day is counted by subtracting.
    package func tallies(subtractionThreshold: Int) throws -> PeriodTallies {
        let (from, to) = selection.minutes
        return try PeriodTallies(
            self, from: from * 60_000, to: to * 60_000, subtractionThreshold: subtractionThreshold)
    }
}

extension Tally {
    /// Adds a number of rejections for one reason, and the times of the first and last of them.
    fileprivate mutating func add(
        _ number: Int64, of reason: Int64, in reasons: TallyReasons, from start: Int64, to end: Int64
    ) {
        count &+= number
        switch reason {
        case reasons.unknown: unknown &+= number
        case reasons.relay: relay &+= number
        case reasons.harvest: harvest &+= number
        default: if !reasons.personal.contains(reason) { return }
        }
        first = min(first, start)
        last = max(last, end)
    }
}
