import Foundation
import GRDB
import RecipientIndex

/// The losses that the state keeps: for the guards' window, for the grace of recipients that left the list less than
/// `sync.grace` ago (they are leaving), and for the list that was last refused and shown. The time is that of ``SyncClock``.
extension SyncState {
    /// The losses within the window before this sync, without those that this sync has got back. Needs the tables of a ``LossRecorder``.
    ///
    /// - Parameter start: the time (of ``SyncClock``) when the window begins.
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
    /// - Parameter start: the time (of ``SyncClock``) when the window begins.
    static func deleteLosses(_ database: Database, before start: Int64) throws {
        try database.execute(
            sql: """
                DELETE FROM loss WHERE leaving = 0 AND counted = 0;
                DELETE FROM loss WHERE leaving = 0 AND counted = 1 AND at <= :start
                """, arguments: ["start": start])
    }

    // MARK: Leaving recipients

    /// The number of leaving addresses: they left the list less than `sync.grace` ago, and are deferred.
    static func leavingCount(_ database: Database) throws -> Int {
        try Int.fetchOne(database, sql: "SELECT count(*) FROM loss WHERE leaving = 1") ?? 0
    }

    /// The time (of ``SyncClock``) when the first leaving address left the list; nil if none is leaving.
    static func firstLeaving(_ database: Database) throws -> Int64? {
        try Int64.fetchOne(database, sql: "SELECT min(at) FROM loss WHERE leaving = 1")
    }

    /// Calls the body with each leaving address and the flags that it had.
    ///
    /// - Parameter goneBy: only addresses that left the list at or before this time.
    static func forEachLeaving(
        _ database: Database, goneBy: Int64 = .max, _ body: (String, RecipientFlags) throws -> Void
    ) throws {
        let rows = try Row.fetchCursor(
            database, sql: "SELECT address, flags FROM loss WHERE leaving = 1 AND at <= ?", arguments: [goneBy])
        while let row = try rows.next() { try body(try row.value("address"), try row.flags("flags")) }
    }

    /// Ends the grace of addresses that left the list at or before this time.
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

    // MARK: Time

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
