import Foundation
import GRDB
import RecipientIndex
import RecipientSources

/// In what way a recipient was lost.
enum LossKind: Int64 {
    /// No source lists it any more.
    case gone = 0
    /// Every sender could write to it; now only trusted clients can, or nobody.
    case restricted = 1
}

/// How many recipients were lost within the window of the guard before this sync.
struct WindowLosses: Equatable {
    /// The losses of the list, a source or a domain.
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
        of key: UnsafeBufferPointer<UInt8>, _ kind: LossKind, domain: String, flags: RecipientFlags, sources: String
    ) throws(SyncError) {
        bind(key, kind, to: insertion)
        insertion.bind(domain, at: 3)
        insertion.bind(Int64(flags.rawValue), at: 4)
        insertion.bind(sources, at: 5)
        try insertion.run()
    }

    /// Records that an address is listed again, or free of restrictions again, if it was lost in this way.
    ///
    /// - Returns: whether it was leaving, so that it was never rejected.
    func recordReturn(of key: UnsafeBufferPointer<UInt8>, _ kind: LossKind) throws(SyncError) -> Bool {
        guard hasLosses, let leaving = try number(search, key, kind) else { return false }
        bind(key, kind, to: returning)
        try returning.run()
        return leaving == 1
    }

    /// The flags of an address that has gone within the window; nil for any other.
    func flags(ofGone key: UnsafeBufferPointer<UInt8>) throws(SyncError) -> RecipientFlags? {
        guard hasLosses, let flags = try number(flagsSearch, key, .gone) else { return nil }
        return RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags))
    }

    /// Whether this loss is among those that were last refused and shown.
    func wasShown(_ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind) throws(SyncError) -> Bool {
        try number(shownSearch, key, kind) != nil
    }

    private func number(
        _ query: SQLStatement, _ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind
    ) throws(SyncError) -> Int64? {
        bind(key, kind, to: query)
        return try query.firstNumber()
    }

    private func bind(_ key: UnsafeBufferPointer<UInt8>, _ kind: LossKind, to statement: SQLStatement) {
        statement.bind(key, at: 1)
        statement.bind(kind.rawValue, at: 2)
    }
}
