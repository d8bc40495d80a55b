import Foundation
import GRDB
import GRDBSQLite
import RecipientIndex
import RecipientSources

/// In what way a recipient was lost.
enum LossKind: Int64 {
    /// No source lists it any more.
    case gone = 0
    /// Everyone could write to it, and now only trusted clients can, or nobody.
    case restricted = 1
}

/// How many recipients were lost within the window of the guard, before the sync at hand.
struct WindowLosses: Equatable {
    /// One scope's.
    struct Count: Equatable {
        var gone = 0
        var restricted = 0

        mutating func add(_ kind: LossKind, _ count: Int) {
            switch kind {
            case .gone: gone += count
            case .restricted: restricted += count
            }
        }
    }

    var all = Count()
    /// By the name of the source.
    var sources: [String: Count] = [:]
    /// By the domain.
    var domains: [String: Count] = [:]
    /// When the first of them was lost, by the clock on the wall.
    var since: Date?
}

/// What a comparison does about the addresses that go.
struct LossPolicy {
    let recorder: LossRecorder
    /// Whether only those may go that were refused and shown before.
    let acceptsShown: Bool
    /// Whether they are deferred for a while before they are rejected.
    let defers: Bool
    /// The names of the sources, by place.
    let sources: [String]

    /// The names of sources as JSON, each once.
    func names(_ places: [Int]) -> String {
        let names = Set(places.filter { sources.indices.contains($0) }).sorted().map { sources[$0] }
        return (try? JSONEncoder().encode(names)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
    }
}

extension RecipientFlags {
    /// Whether not everyone may write to the recipient.
    var isRestricted: Bool { !isDisjoint(with: [.internalOnly, .disabled]) }
    /// Whether it is an alias domain that isn't counted among the catch-all domains.
    var isAliasAlone: Bool { contains(.aliasDomain) && !contains(.catchAll) }
}

/// Notes which addresses a comparison loses and which it gets back, in tables that end with the connection; ``keep(_:)`` makes them part of
/// the state.
///
/// It also answers, for a sync that accepts a shrunken list, which losses a person was shown.
final class LossRecorder {
    private let database: OpaquePointer?
    private var insertion: OpaquePointer?
    private var returning: OpaquePointer?
    private var search: OpaquePointer?
    private var shownSearch: OpaquePointer?
    private var flagsSearch: OpaquePointer?
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
        self.database = database.sqliteConnection
        insertion = try prepare("INSERT OR REPLACE INTO temp.lost VALUES (?, ?, ?, ?, ?)", self.database)
        returning = try prepare("INSERT OR IGNORE INTO temp.back VALUES (?, ?)", self.database)
        search = try prepare("SELECT leaving FROM loss WHERE address = ? AND kind = ?", self.database)
        flagsSearch = try prepare("SELECT flags FROM loss WHERE address = ? AND kind = ?", self.database)
        shownSearch = try prepare("SELECT 1 FROM refused WHERE address = ? AND kind = ?", self.database)
    }

    deinit {
        for statement in [insertion, returning, search, shownSearch, flagsSearch] { sqlite3_finalize(statement) }
    }

    /// Notes a loss.
    ///
    /// - Parameters:
    ///   - flags: as the address had them.
    ///   - sources: the names of those that listed it, as JSON.
    func lose(
        _ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind, domain: String, flags: RecipientFlags, sources: String
    ) throws(SyncError) {
        bind(key, kind, insertion)
        sqlite3_bind_text(insertion, 3, domain, -1, transient)
        sqlite3_bind_int64(insertion, 4, Int64(flags.rawValue))
        sqlite3_bind_text(insertion, 5, sources, -1, transient)
        guard sqlite3_step(insertion) == SQLITE_DONE else { throw failure(database) }
        sqlite3_reset(insertion)
    }

    /// Notes that an address is listed, or free of restrictions, again.
    ///
    /// - Returns: whether it was leaving, so that it never was away.
    func regain(_ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind) throws(SyncError) -> Bool {
        guard hasLosses, let leaving = try find(key, kind, search) else { return false }
        bind(key, kind, returning)
        guard sqlite3_step(returning) == SQLITE_DONE else { throw failure(database) }
        sqlite3_reset(returning)
        return leaving == 1
    }

    /// The flags that an address had that has gone; nil for one that hasn't.
    func goneFlags(_ key: UnsafeBufferPointer<UInt8>) throws(SyncError) -> RecipientFlags? {
        guard hasLosses, let flags = try find(key, .gone, flagsSearch) else { return nil }
        return RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags))
    }

    /// Whether this loss is among those that were last refused and shown.
    func wasShown(_ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind) throws(SyncError) -> Bool {
        try find(key, kind, shownSearch) != nil
    }

    /// The first value of the row that is found; nil for none.
    private func find(
        _ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind, _ statement: OpaquePointer?
    ) throws(SyncError) -> Int64? {
        bind(key, kind, statement)
        defer { sqlite3_reset(statement) }
        switch sqlite3_step(statement) {
        case SQLITE_ROW: return sqlite3_column_int64(statement, 0)
        case SQLITE_DONE: return nil
        default: throw failure(database)
        }
    }

    private func bind(_ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind, _ statement: OpaquePointer?) {
        // Without a destructor SQLite takes no copies: the bytes outlive the step.
        let text = UnsafeRawPointer(key.baseAddress)?.assumingMemoryBound(to: CChar.self)
        sqlite3_bind_text(statement, 1, text, Int32(truncatingIfNeeded: key.count), nil)
        sqlite3_bind_int64(statement, 2, kind.rawValue)
    }

    private var transient: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }
}

extension SyncState {
    /// What was lost within the window before a sync; what this sync has got back doesn't count. Needs a ``LossRecorder``'s tables.
    ///
    /// - Parameter from: the sync's time at which the window begins.
    static func windowLosses(_ database: Database, from: Int64) throws -> WindowLosses {
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
                """, arguments: [from])
        while let row = try rows.next() {
            guard let kind = LossKind(rawValue: try row.value("kind")) else { continue }
            let count = try row.count("number")
            let first = Date(milliseconds: try row.value("first"))
            losses.all.add(kind, count)
            losses.since = min(losses.since ?? first, first)
            losses.domains[try row.value("domain"), default: .init()].add(kind, count)
            let sources: String = try row.value("sources")
            for name in (try? JSONDecoder().decode([String].self, from: Data(sources.utf8))) ?? [] {
                losses.sources[name, default: .init()].add(kind, count)
            }
        }
        return losses
    }

    /// Makes what a comparison has lost and got back part of the state.
    ///
    /// - Parameters:
    ///   - now: the sync's time.
    ///   - wall: the time of day, for people.
    ///   - isAccepted: whether a person has accepted these losses and those before: they don't count any more.
    ///   - isDeferred: whether the addresses that have gone are deferred for a while.
    static func keepLosses(
        _ database: Database, now: Int64, wall: Date, isAccepted: Bool, isDeferred: Bool
    ) throws {
        try database.execute(
            sql: """
                DELETE FROM loss WHERE (address, kind) IN (SELECT address, kind FROM temp.back)
                """)
        if isAccepted { try database.execute(sql: "UPDATE loss SET counted = 0 WHERE counted = 1") }
        try database.execute(
            sql: """
                INSERT OR REPLACE INTO loss (address, kind, domain, flags, sources, at, time, counted, leaving)
                SELECT address, kind, domain, flags, sources, ?, ?, ?, CASE kind WHEN 0 THEN ? ELSE 0 END FROM temp.lost
                """, arguments: [now, wall.milliseconds, isAccepted ? 0 : 1, isDeferred ? 1 : 0])
    }

    /// How many addresses are deferred because they have gone.
    static func leaving(_ database: Database) throws -> Int {
        try Int.fetchOne(database, sql: "SELECT count(*) FROM loss WHERE leaving = 1") ?? 0
    }

    /// The sync's time at which the first of the addresses was lost that are deferred; nil where none is.
    static func firstLeaving(_ database: Database) throws -> Int64? {
        try Int64.fetchOne(database, sql: "SELECT min(at) FROM loss WHERE leaving = 1")
    }

    /// Calls the body with each address that is deferred because it has gone, and the flags that it had.
    ///
    /// - Parameter goneBy: only those that have gone by then.
    static func forEachLeaving(
        _ database: Database, goneBy: Int64 = .max, _ body: (String, RecipientFlags) throws -> Void
    ) throws {
        let rows = try Row.fetchCursor(
            database, sql: "SELECT address, flags FROM loss WHERE leaving = 1 AND at <= ?", arguments: [goneBy])
        while let row = try rows.next() {
            let flags: Int = try row.value("flags")
            try body(try row.value("address"), RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags)))
        }
    }

    /// Ends the time of grace of the addresses that had gone by then.
    static func endGrace(_ database: Database, goneBy: Int64) throws {
        try database.execute(sql: "UPDATE loss SET leaving = 0 WHERE leaving = 1 AND at <= ?", arguments: [goneBy])
    }

    /// Deletes the entries of sources that the state doesn't know.
    static func deleteOrphans(_ database: Database) throws {
        try database.execute(sql: "DELETE FROM entry WHERE source NOT IN (SELECT id FROM source)")
    }

    /// Forgets the losses that no guard counts any more.
    ///
    /// - Parameter from: the sync's time at which the window begins.
    static func forgetLosses(_ database: Database, from: Int64) throws {
        try database.execute(
            sql:
                "DELETE FROM loss WHERE leaving = 0 AND counted = 0; DELETE FROM loss WHERE leaving = 0 AND counted = 1 AND at <= :from",
            arguments: ["from": from])
    }

    /// Puts what the comparison loses in the place of what was refused and shown before.
    static func storeRefused(_ database: Database) throws {
        try database.execute(
            sql: "DELETE FROM refused; INSERT INTO refused SELECT address, kind FROM temp.lost")
    }

    /// Whether the comparison loses all that was refused and shown before.
    static func losesAllRefused(_ database: Database) throws -> Bool {
        try Bool.fetchOne(
            database,
            sql: """
                SELECT NOT EXISTS (SELECT 1 FROM refused WHERE NOT EXISTS (
                    SELECT 1 FROM temp.lost WHERE lost.address = refused.address AND lost.kind = refused.kind))
                """) ?? false
    }

    /// The sync's time now; noted as the point from which the next one goes on, unless the state is only read.
    static func time(_ database: Database, _ clock: SyncClock, isReading: Bool) throws -> Int64 {
        let reading = clock.read()
        // Without what the clocks showed, no time has passed since the last loss.
        var time = try Int64.fetchOne(database, sql: "SELECT max(at) FROM loss") ?? 0
        if let row = try Row.fetchOne(database, sql: "SELECT * FROM clock") {
            let last = SyncClock.Reading(
                wall: try row.value("wall"), steady: try row.value("steady"), boot: try row.value("boot"))
            time = SyncClock.time(reading, after: (try row.value("time"), last))
        }
        guard !isReading else { return time }
        try database.execute(
            sql: "INSERT OR REPLACE INTO clock (id, time, wall, steady, boot) VALUES (1, ?, ?, ?, ?)",
            arguments: [time, reading.wall, reading.steady, reading.boot])
        return time
    }
}
