import Synchronization
import System

/// Aliases of tables whose target is a recipient in a relay domain that no source lists: all counted, the first twenty kept.
public struct UnlistedTargets: Sendable, Codable, Equatable {
    /// How many of the first are kept.
    static let kept = 20

    /// How many there are.
    public package(set) var count = 0
    /// The first of them in the order of the table: `info@example.com (line 7): someone@example.com`.
    public package(set) var first: [String] = []
}

/// Where the aliases of a sync's tables lead, collected while the tables are read and compared with the whole list. Any thread.
package final class AliasTargets: Sendable {
    /// Further ones aren't looked at: the memory for them stays bounded.
    static let most = 100_000

    private struct Alias {
        var name: String
        var line: Int
        var source: Int
        /// Of the names: the target, the target without its detail, its whole domain.
        var keys: (Int, Int, Int)
    }

    private struct State {
        var names = ByteTable()
        /// By the number of a name: whether the new list has it.
        var isListed: [Bool] = []
        var aliases: [Alias] = []

        mutating func number(of name: UnsafeBufferPointer<UInt8>) -> Int {
            let number = names.insert(name)
            if number == isListed.count { isListed.append(false) }
            return number
        }
    }

    private let state = Mutex(State())
    /// Those of several sources, which are joined here.
    private let parts: [AliasTargets]

    /// Joins those of several sources; nothing is noted here afterwards.
    init(joining parts: [AliasTargets] = []) {
        self.parts = parts.filter { part in part.state.withLock { !$0.aliases.isEmpty } }
    }

    func note(
        alias: UnsafeBufferPointer<UInt8>, line: Int, target: UnsafeBufferPointer<UInt8>, source: Int
    ) {
        guard let at = target.lastIndex(of: UInt8(ascii: "@")), !alias.elementsEqual(target) else { return }
        let bare = target[..<at].firstIndex(of: UInt8(ascii: "+")).map { Array(target[..<$0]) + Array(target[at...]) }
        state.withLock { state in
            guard state.aliases.count < Self.most else { return }
            let whole = state.number(of: target)
            let keys = (
                whole, bare?.withUnsafeBufferPointer { state.number(of: $0) } ?? whole,
                state.number(of: target.slice(at..<target.count))
            )
            state.aliases.append(
                Alias(name: String(decoding: alias, as: UTF8.self), line: line, source: source, keys: keys))
        }
    }

    /// Forgets those of a source, which is read anew.
    func forget(source: Int) { state.withLock { state in state.aliases.removeAll { $0.source == source } } }

    /// Takes note that the new list has a key.
    package func noteListed(_ key: UnsafeBufferPointer<UInt8>) {
        for part in parts { part.noteListed(key) }
        state.withLock { state in
            guard !state.aliases.isEmpty, let number = state.names.position(of: key) else { return }
            state.isListed[number] = true
        }
    }

    /// The aliases of a source whose target isn't listed, once the whole list has been gone through.
    ///
    /// - Parameter isAccepted: whether a target needn't be listed.
    package func unlisted(source: Int, _ isAccepted: (String) -> Bool) -> UnlistedTargets {
        state.withLock { state in
            for part in parts {
                let unlisted = part.unlisted(source: source, isAccepted)
                if unlisted.count > 0 { return unlisted }
            }
            var unlisted = UnlistedTargets()
            for alias in state.aliases where alias.source == source {
                let (whole, bare, domain) = alias.keys
                if state.isListed[whole] || state.isListed[bare] || state.isListed[domain] { continue }
                if isAccepted(state.names[whole]) { continue }
                unlisted.count += 1
                if unlisted.first.count < UnlistedTargets.kept {
                    unlisted.first.append("\(alias.name) (line \(alias.line)): \(state.names[whole])")
                }
            }
            return unlisted
        }
    }
}
