import Foundation
import GRDB
import RecipientIndex

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
