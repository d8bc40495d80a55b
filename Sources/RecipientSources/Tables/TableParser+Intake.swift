import MailAddress
import RecipientIndex

extension EntryIntake {
    /// Lists the recipients of a table as all that a source has.
    ///
    /// - Parameters:
    ///   - name: the table's, for messages.
    ///   - isWhole: asked before lines are called malformed: nobody has written to the table meanwhile.
    /// - Throws: `SourceError` of kind `malformed` with every line that can't be understood.
    func take(
        _ reader: LineReader, _ format: TableFormat, name: String, of source: SourceConfiguration, at index: Int,
        _ report: inout SourceReport, isWhole: () -> Bool = { true }
    ) throws(SourceError) {
        let tag = begin(source: index)
        var foreign = ForeignAddresses()
        var parser = TableParser(format)
        var aliases = AliasTable()
        let noObject = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        try parser.parse(reader) { listing in
            countEntry()
            guard admits(listing.domain, source: index) else {
                foreign.note { "\(String(decoding: listing.key, as: UTF8.self)) (line \(listing.line))" }
                return
            }
            if listing.flags.contains(.catchAll) {
                if let target = TableParser.aliasTarget(listing.value, format), relays(target),
                    aliases.add(String(decoding: listing.domain, as: UTF8.self), target)
                {
                    return
                }
            } else if !listing.flags.contains(.disabled) {
                noteTargets(listing, source: index)
            }
            add(Entry(key: listing.key, tag: tag, flags: listing.flags, object: noObject))
        }
        for cycle in aliases.removeCycles() {
            report.remarks.append(
                "the alias domains \(cycle.joined(separator: ", ")) of \(name) are aliases of each other in a circle: they are "
                    + "ignored, and recipients in them are judged as if no such line were there; name a domain that is no alias"
            )
        }
        for (alias, target) in aliases.sorted {
            var key = "@\(alias)"
            var object = target
            key.withUTF8 { key in
                object.withUTF8 { object in add(Entry(key: key, tag: tag, flags: .aliasDomain, object: object)) }
            }
        }
        report.read = parser.entries
        report.skipped = parser.skipped
        report.faults = parser.faults
        report.foreign = foreign
        guard parser.malformed.count == 0 || !isWhole() else {
            throw SourceError(
                .malformed,
                "source \"\(source.name)\" holds malformed lines (\(parser.malformed.count)), so it is not used:\n"
                    + parser.malformed.description(file: name), source: source.name)
        }
        if let failure { throw failure }
    }

    /// Notes where the mail of a listed alias goes, so that ``UnlistedTargets`` can tell which of its targets nobody lists.
    private func noteTargets(_ listing: TableParser.Listing, source: Int) {
        guard listing.value.contains(UInt8(ascii: "@")) else { return }
        for word in listing.value.split(whereSeparator: { $0.isSpace || $0 == UInt8(ascii: ",") }) {
            let word = UnsafeBufferPointer(rebasing: word)
            // %1 stands for a part of the alias in virtusertable.
            guard word.contains(UInt8(ascii: "@")), word.first != UInt8(ascii: "@"), !word.contains(UInt8(ascii: "%")),
                let address = try? RecipientAddress(path: word), address.hasDomain,
                address.withDomain({ relays($0) })
            else { continue }
            address.withKey { target in
                targets.note(alias: listing.key, line: listing.line, target: target, source: source)
            }
        }
    }
}

/// The alias domains that one table names, each with the domain whose recipients it has.
struct AliasTable {
    private var targets: [String: String] = [:]

    /// Adds an alias unless the table has named it before; false if the domain would be an alias of itself.
    mutating func add(_ alias: String, _ target: String) -> Bool {
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
    /// - Returns: the domains of each circle, from the first by name on.
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
