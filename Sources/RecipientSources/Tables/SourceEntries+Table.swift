import MailAddress
import RecipientIndex
import System

extension SourceEntries {
    /// Lists the recipients of a table as the whole list of the source.
    ///
    /// - Parameter isWhole: whether nobody has written to the table since it was opened; if somebody has, malformed
    ///   lines may be half-written, and aren't reported.
    /// - Throws: `SourceError` of kind `malformed` that names every malformed line.
    func read(
        _ reader: LineReader, _ format: TableFormat, of source: SourceConfiguration, report: inout SourceReport,
        isWhole: () -> Bool = { true }
    ) throws(SourceError) {
        begin()
        var foreign = ForeignAddresses()
        var parser = TableParser(format)
        var aliases = AliasTable()
        let noObject = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        try parser.parse(reader) { listing in
            countEntry()
            guard admits(listing.domain) else {
                foreign.note { "\(String(decoding: listing.key, as: UTF8.self)) (line \(listing.line))" }
                return
            }
            if listing.flags.contains(.catchAll) {
                if let target = TableParser.aliasTarget(listing.value, format), relays(target),
                    aliases.add(String(decoding: listing.domain, as: UTF8.self), target: target)
                {
                    return
                }
            } else if !listing.flags.contains(.disabled) {
                addTargets(of: listing)
            }
            add(key: listing.key, flags: listing.flags, object: noObject)
        }
        for cycle in aliases.removeCycles() {
            report.remarks.append(
                "the alias domains \(cycle.joined(separator: ", ")) of \(reader.name) are aliases of each other; Postern ignores these "
                    + "entries and judges recipients in the domains without them; name a target that is not an alias itself"
            )
        }
        for (alias, target) in aliases.sorted {
            var key = "@\(alias)"
            var object = target
            key.withUTF8 { key in
                object.withUTF8 { object in add(key: key, flags: .aliasDomain, object: object) }
            }
        }
        report.read = parser.entries
        report.skipped = parser.skipped
        report.faults = parser.faults
        report.foreign = foreign
        guard parser.malformed.count == 0 || !isWhole() else {
            throw SourceError(
                .malformed,
                "source \"\(source.name)\" has malformed lines (\(parser.malformed.count)), so it is not used:\n"
                    + parser.malformed.description(file: reader.name), source: source.name)
        }
        if let failure { throw failure }
    }

    /// Notes the recipients that a listed alias leads to, for ``UnlistedTargets``.
    private func addTargets(of listing: TableParser.Listing) {
        guard listing.value.contains(UInt8(ascii: "@")) else { return }
        for word in listing.value.split(whereSeparator: { $0.isSpace || $0 == UInt8(ascii: ",") }) {
            let word = UnsafeBufferPointer(rebasing: word)
            // %1 stands for a part of the alias in virtusertable.
            guard word.contains(UInt8(ascii: "@")), word.first != UInt8(ascii: "@"), !word.contains(UInt8(ascii: "%")),
                let address = try? RecipientAddress(path: word), address.hasDomain,
                address.withDomain({ relays($0) })
            else { continue }
            address.withKey { aliasTargets.add(alias: listing.key, line: listing.line, target: $0) }
        }
    }
}

/// The alias domains of a table, each with the domain whose recipients it has.
struct AliasTable {
    private var targets: [String: String] = [:]

    /// Adds an alias unless an earlier line has named it; false if the domain would be an alias of itself.
    mutating func add(_ alias: String, target: String) -> Bool {
        guard alias != target else { return false }
        if targets[alias] == nil { targets[alias] = target }
        return true
    }

    /// The aliases in the order of their names.
    var sorted: [(alias: String, target: String)] {
        targets.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Removes the aliases that lead back to themselves.
    ///
    /// - Returns: the domains of each cycle, from the first by name on.
    mutating func removeCycles() -> [[String]] {
        var cycles: [[String]] = []
        var settled: Set<String> = []
        for start in targets.keys.sorted() where !settled.contains(start) {
            var path: [String] = []
            var onPath: Set<String> = []
            var next: String? = start
            while let domain = next, targets[domain] != nil, !settled.contains(domain), onPath.insert(domain).inserted {
                path.append(domain)
                next = targets[domain]
            }
            if let next, onPath.contains(next), let first = path.firstIndex(of: next) {
                cycles.append(Array(path[first...]))
            }
            settled.formUnion(path)
        }
        for domain in cycles.joined() { targets[domain] = nil }
        return cycles
    }
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
