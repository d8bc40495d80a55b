import System

/// Aliases of tables whose target is a recipient in a relay domain that no source lists: all are counted, the first twenty kept.
public struct UnlistedTargets: Sendable, Codable, Equatable {
    /// How many aliases are kept.
    static let kept = 20

    /// How many there are.
    public package(set) var count = 0
    /// The first of them in the order of the table: `info@example.com (line 7): someone@example.com`.
    public package(set) var first: [String] = []
}

/// Where the aliases of a table lead, to be compared with the whole list of recipients.
struct AliasTargets {
    /// The most aliases that are compared, which bounds the memory for them.
    static let most = 100_000

    private struct Alias {
        var name: String
        var line: Int
        /// The positions in `names` of the target, of the target without its `+detail`, and of its whole domain.
        var positions: (target: Int, bare: Int, domain: Int)
    }

    private var names = ByteTable()
    /// Whether the new list has a name, by its position in `names`.
    private var isListed: [Bool] = []
    private var aliases: [Alias] = []

    var isEmpty: Bool { aliases.isEmpty }

    mutating func add(
        alias: UnsafeBufferPointer<UInt8>, line: Int, target: UnsafeBufferPointer<UInt8>
    ) {
        guard aliases.count < Self.most, let at = target.lastIndex(of: UInt8(ascii: "@")),
            !alias.elementsEqual(target)
        else { return }
        let bare = target[..<at].firstIndex(of: UInt8(ascii: "+")).map { Array(target[..<$0]) + Array(target[at...]) }
        let whole = position(of: target)
        let positions = (
            whole, bare?.withUnsafeBufferPointer { position(of: $0) } ?? whole,
            position(of: target.slice(at..<target.count))
        )
        aliases.append(Alias(name: String(decoding: alias, as: UTF8.self), line: line, positions: positions))
    }

    private mutating func position(of name: UnsafeBufferPointer<UInt8>) -> Int {
        let position = names.insert(name)
        if position == isListed.count { isListed.append(false) }
        return position
    }

    /// Notes that the new list has a key.
    mutating func noteListed(_ key: UnsafeBufferPointer<UInt8>) {
        if let position = names.position(of: key) { isListed[position] = true }
    }

    /// The aliases whose target isn't listed, once all keys of the new list are noted.
    ///
    /// - Parameter isAccepted: whether a target needn't be listed.
    func unlisted(_ isAccepted: (String) -> Bool) -> UnlistedTargets {
        var unlisted = UnlistedTargets()
        for alias in aliases {
            let (target, bare, domain) = alias.positions
            if isListed[target] || isListed[bare] || isListed[domain] || isAccepted(names[target]) { continue }
            unlisted.count += 1
            if unlisted.first.count < UnlistedTargets.kept {
                unlisted.first.append("\(alias.name) (line \(alias.line)): \(names[target])")
            }
        }
        return unlisted
    }
}
