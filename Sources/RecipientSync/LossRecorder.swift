import Foundation
import GRDB
import RecipientIndex
import RecipientSources
import System

/// In what way a recipient was lost.
enum LossKind: Int64 {
    /// No source lists it any more.
    case gone = 0
    /// Every sender could write to it; now only trusted clients can, or nobody.
    case restricted = 1
}

/// How many addresses were lost, by the kind of loss.
struct LossCount: Equatable {
    var gone = 0
    var restricted = 0

    mutating func add(_ kind: LossKind, _ count: Int = 1) {
        switch kind {
        case .gone: gone += count
        case .restricted: restricted += count
        }
    }
}

/// The losses within the window of the guard before this sync.
struct WindowLosses: Equatable {
    var all = LossCount()
    /// By the name of the source.
    var sources: [String: LossCount] = [:]
    /// By the domain.
    var domains: [String: LossCount] = [:]
    /// When the first of them was lost, by the wall clock.
    var since: Date?
}

/// Records which addresses a comparison loses and which it gets back, in temporary tables; `SyncState.keepLosses` makes them part of the
/// state.
///
/// It also tells, for a sync that accepts a shrunken list, which losses a person was shown.
final class LossRecorder {
    private let insertion: SQLStatement
    private let returning: SQLStatement
    private let search: SQLStatement
    private let shownSearch: SQLStatement
    private let flagsSearch: SQLStatement
    /// Whether the state has any losses at all: most syncs needn't look for them.
    private let hasLosses: Bool

    init(_ database: Database) throws {
        try database.execute(
            sql: """
                CREATE TEMP TABLE IF NOT EXISTS lost (
                    address TEXT NOT NULL, kind INTEGER NOT NULL, domain TEXT NOT NULL, flags INTEGER NOT NULL,
                    sources TEXT NOT NULL, PRIMARY KEY (address, kind)
                ) WITHOUT ROWID;
                CREATE TEMP TABLE IF NOT EXISTS back (
                    address TEXT NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (address, kind)
                ) WITHOUT ROWID;
                DELETE FROM temp.lost; DELETE FROM temp.back
                """)
        hasLosses = try Bool.fetchOne(database, sql: "SELECT EXISTS (SELECT 1 FROM loss)") ?? false
        insertion = try SQLStatement("INSERT OR REPLACE INTO temp.lost VALUES (?, ?, ?, ?, ?)", database)
        returning = try SQLStatement("INSERT OR IGNORE INTO temp.back VALUES (?, ?)", database)
        search = try SQLStatement("SELECT leaving FROM loss WHERE address = ? AND kind = ?", database)
        flagsSearch = try SQLStatement("SELECT flags FROM loss WHERE address = ? AND kind = ?", database)
        shownSearch = try SQLStatement("SELECT 1 FROM refused WHERE address = ? AND kind = ?", database)
    }

    /// Records a loss.
    ///
    /// - Parameters:
    ///   - flags: the flags that the address had.
    ///   - sources: the names of the sources that listed it, as JSON.
    func recordLoss(
        of key: [UInt8], _ kind: LossKind, domain: String, flags: RecipientFlags, sources: String
    ) throws(SyncError) {
        insertion.bind(domain, at: 3)
        insertion.bind(Int64(flags.rawValue), at: 4)
        insertion.bind(sources, at: 5)
        _ = try run(insertion, key: key, kind)
    }

    /// Records that an address is listed again, or free of restrictions again, if it was lost in this way.
    ///
    /// - Returns: whether it was leaving, so that it was never rejected.
    func recordReturn(of key: [UInt8], _ kind: LossKind) throws(SyncError) -> Bool {
        guard hasLosses, let leaving = try run(search, key: key, kind) else { return false }
        _ = try run(returning, key: key, kind)
        return leaving == 1
    }

    /// The flags of an address that has gone within the window; nil for any other.
    func flags(ofGone key: [UInt8]) throws(SyncError) -> RecipientFlags? {
        guard hasLosses, let flags = try run(flagsSearch, key: key, .gone) else { return nil }
        return RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags))
    }

    /// Whether this loss is among those that were last refused and shown.
    func wasShown(_ key: [UInt8], _ kind: LossKind) throws(SyncError) -> Bool {
        try run(shownSearch, key: key, kind) != nil
    }

    /// Runs a statement whose first parameters are the address and the kind of loss; the number that it finds.
    private func run(_ statement: SQLStatement, key: [UInt8], _ kind: LossKind) throws(SyncError) -> Int64? {
        statement.bind(kind.rawValue, at: 2)
        return try withBytes(of: key) { key throws(SyncError) in
            statement.bind(key, at: 1)
            return try statement.run()
        }
    }
}

extension SyncState {
    /// The losses within the window before this sync, without those that this sync has got back. Needs the tables of a ``LossRecorder``.
    ///
    /// - Parameter start: the sync's time at which the window begins.
    static func windowLosses(_ database: Database, since start: Int64) throws -> WindowLosses {
        var losses = WindowLosses()
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT kind, domain, sources, count(*) AS number, min(time) AS first FROM loss
                WHERE counted = 1 AND at > ? AND NOT EXISTS (
                    SELECT 1 FROM temp.back WHERE back.address = loss.address AND back.kind = loss.kind)
                AND NOT EXISTS (
                    SELECT 1 FROM temp.lost WHERE lost.address = loss.address AND lost.kind = loss.kind)
                GROUP BY kind, domain, sources
                """, arguments: [start])
        while let row = try rows.next() {
            guard let kind = LossKind(rawValue: try row.value("kind")) else { continue }
            let count = try row.count("number")
            let first = Date(milliseconds: try row.value("first"))
            losses.all.add(kind, count)
            losses.since = min(losses.since ?? first, first)
            losses.domains[try row.value("domain"), default: .init()].add(kind, count)
            for name in try row.names("sources") { losses.sources[name, default: .init()].add(kind, count) }
        }
        return losses
    }

    /// Makes the losses and returns of a comparison part of the state.
    ///
    /// - Parameters:
    ///   - now: the sync's time.
    ///   - wall: the time of day, for people.
    ///   - isAccepted: whether a person has accepted these losses and the earlier ones: they don't count any more.
    ///   - isDeferred: whether the addresses that have gone are deferred for a while.
    static func keepLosses(
        _ database: Database, now: Int64, wall: Date, isAccepted: Bool, isDeferred: Bool
    ) throws {
        try database.execute(
            sql: "DELETE FROM loss WHERE (address, kind) IN (SELECT address, kind FROM temp.back)")
        if isAccepted { try database.execute(sql: "UPDATE loss SET counted = 0 WHERE counted = 1") }
        try database.execute(
            sql: """
                INSERT OR REPLACE INTO loss (address, kind, domain, flags, sources, at, time, counted, leaving)
                SELECT address, kind, domain, flags, sources, ?, ?, ?, CASE kind WHEN 0 THEN ? ELSE 0 END FROM temp.lost
                """, arguments: [now, wall.milliseconds, isAccepted ? 0 : 1, isDeferred ? 1 : 0])
    }

    /// Deletes the losses that no guard counts any more.
    ///
    /// - Parameter start: the sync's time at which the window begins.
    static func deleteLosses(_ database: Database, before start: Int64) throws {
        try database.execute(
            sql: """
                DELETE FROM loss WHERE leaving = 0 AND counted = 0;
                DELETE FROM loss WHERE leaving = 0 AND counted = 1 AND at <= :start
                """, arguments: ["start": start])
    }

    // MARK: Leaving recipients

    /// How many addresses are leaving: they have gone, and are deferred.
    static func leavingCount(_ database: Database) throws -> Int {
        try Int.fetchOne(database, sql: "SELECT count(*) FROM loss WHERE leaving = 1") ?? 0
    }

    /// The sync's time at which the first of the leaving addresses went; nil if none is leaving.
    static func firstLeaving(_ database: Database) throws -> Int64? {
        try Int64.fetchOne(database, sql: "SELECT min(at) FROM loss WHERE leaving = 1")
    }

    /// Calls the body with each leaving address and the flags that it had.
    ///
    /// - Parameter goneBy: only the addresses that had gone by then.
    static func forEachLeaving(
        _ database: Database, goneBy: Int64 = .max, _ body: (String, RecipientFlags) throws -> Void
    ) throws {
        let rows = try Row.fetchCursor(
            database, sql: "SELECT address, flags FROM loss WHERE leaving = 1 AND at <= ?", arguments: [goneBy])
        while let row = try rows.next() { try body(try row.value("address"), try row.flags("flags")) }
    }

    /// Ends the grace of the addresses that had gone by then.
    static func endGrace(_ database: Database, goneBy: Int64) throws {
        try database.execute(sql: "UPDATE loss SET leaving = 0 WHERE leaving = 1 AND at <= ?", arguments: [goneBy])
    }

    // MARK: Refused losses

    /// Replaces the losses that were last refused and shown with those of the comparison.
    static func storeRefused(_ database: Database) throws {
        try database.execute(sql: "DELETE FROM refused; INSERT INTO refused SELECT address, kind FROM temp.lost")
    }

    static func deleteRefused(_ database: Database) throws { try database.execute(sql: "DELETE FROM refused") }

    /// Whether the comparison loses every address that was last refused and shown.
    static func losesAllRefused(_ database: Database) throws -> Bool {
        try Bool.fetchOne(
            database,
            sql: """
                SELECT NOT EXISTS (SELECT 1 FROM refused WHERE NOT EXISTS (
                    SELECT 1 FROM temp.lost WHERE lost.address = refused.address AND lost.kind = refused.kind))
                """) ?? false
    }
}

/// The sync's own time, by which it measures how long ago a recipient went: a clock that leaps ends neither a grace nor the window of the
/// guard.
///
/// It advances with the machine's steady clock, which counts suspended time too. Over a restart of the machine, only the wall clock tells
/// how much time has passed; the sync's time advances by an hour at most then.
struct SyncClock: Sendable {
    /// What the clocks of the machine show, in milliseconds.
    struct Reading: Equatable {
        /// Since 1970.
        var wall: Int64
        /// Since the machine was started (CLOCK_BOOTTIME).
        var steady: Int64
        /// The id of this start of the machine; empty if the system has none.
        var boot: String
    }

    /// The most that the sync's time advances over a restart of the machine.
    static let mostBetweenBoots: Int64 = 3_600_000

    /// What the clocks show now.
    var read: @Sendable () -> Reading

    static let machine = SyncClock {
        Reading(wall: Clocks.wall, steady: Clocks.sinceBoot, boot: Clocks.bootID)
    }

    /// The sync's time now, from the time when the clocks were last read. It never goes back.
    static func time(_ reading: Reading, after last: (time: Int64, reading: Reading)) -> Int64 {
        let passed: Int64
        if reading.boot == last.reading.boot, !reading.boot.isEmpty, reading.steady >= last.reading.steady {
            let (difference, overflow) = reading.steady.subtractingReportingOverflow(last.reading.steady)
            passed = overflow ? 0 : difference
        } else {
            let (difference, overflow) = reading.wall.subtractingReportingOverflow(last.reading.wall)
            passed = overflow ? 0 : min(max(0, difference), mostBetweenBoots)
        }
        let (time, overflow) = last.time.addingReportingOverflow(passed)
        return overflow ? last.time : time
    }
}

extension SyncState {
    /// The sync's time now.
    static func time(_ database: Database, _ clock: SyncClock) throws -> Int64 {
        try time(database, clock.read())
    }

    /// The sync's time now, stored with what the clocks show, so that later times go on from it.
    static func storeTime(_ database: Database, _ clock: SyncClock) throws -> Int64 {
        let reading = clock.read()
        let time = try time(database, reading)
        try database.execute(
            sql: "INSERT OR REPLACE INTO clock (id, time, wall, steady, boot) VALUES (1, ?, ?, ?, ?)",
            arguments: [time, reading.wall, reading.steady, reading.boot])
        return time
    }

    private static func time(_ database: Database, _ reading: SyncClock.Reading) throws -> Int64 {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM clock") else {
            // Without an earlier reading of the clocks, no time has passed since the last loss.
            return try Int64.fetchOne(database, sql: "SELECT max(at) FROM loss") ?? 0
        }
        let last = SyncClock.Reading(
            wall: try row.value("wall"), steady: try row.value("steady"), boot: try row.value("boot"))
        return SyncClock.time(reading, after: (try row.value("time"), last))
    }
}
