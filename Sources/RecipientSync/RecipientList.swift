import GRDB
public import RecipientIndex
import RecipientSources

/// The addresses of the list in force, as the sync state holds them in clear.
public enum RecipientList {
    /// Calls the body for each address in the list, in the order of their bytes, with the flags that its sources give together. Works while
    /// a sync writes.
    ///
    /// - Parameters:
    ///   - path: the sync state.
    ///   - body: receives `user@domain`, or `@domain` for a whole domain, canonical; an error of it ends the reading.
    /// - Returns: false if there is no state.
    public static func forEach(state path: String, _ body: (String, RecipientFlags) throws -> Void) throws -> Bool {
        guard let state = try SyncState(reading: path) else { return false }
        // A transaction replaces errors by its own.
        var failure: (any Error)?
        try state.transaction(.deferred) { database in
            let cursor = try EntryCursor(database)
            var last: (address: String, flags: RecipientFlags)?
            func give() {
                guard failure == nil, let last else { return }
                do { try body(last.address, last.flags) } catch { failure = error }
            }
            while failure == nil, let entry = try cursor.next() {
                let address = String(decoding: entry.key, as: UTF8.self)
                if let known = last, known.address == address {
                    last?.flags = known.flags.merged(with: entry.flags)
                } else {
                    give()
                    last = (address, entry.flags)
                }
            }
            give()
            return ((), .commit)
        }
        if let failure { throw failure }
        return true
    }
}
