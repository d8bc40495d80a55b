import Foundation
import GRDB
import RecipientIndex
import RecipientSources
import System

/// Which of a source's entries in the state stay as they are.
enum KeptEntries {
    /// All: the source wasn't read, or hasn't changed.
    case all
    /// None: the source was read in full.
    case none
    /// Every entry except those of changed directory objects.
    case allExcept(ObjectChanges)
}

/// Compares the entries of the state with the sorted new ones, address by address, in one pass and in bounded memory.
struct ListComparison {
    /// The input of a comparison.
    struct Input {
        /// The entries that the sources gave.
        let entries: JoinedEntries
        /// For each source, in the order of `configuration.sources`, which of its entries in the state stay.
        let kept: [KeptEntries]
        /// The index of each source in `configuration.sources`, by its id in the state.
        let places: [Int: Int]
        /// The names of the sources, in the order of `configuration.sources`.
        let names: [String]
        /// The relay domains.
        let relay: DomainSet
        /// The keys of the canaries, sorted.
        let canaries: [[UInt8]]
        /// A published snapshot that another state made.
        let unknown: IndexSnapshot?
        let recorder: LossRecorder
        /// Whether only addresses may be lost that the last refusal showed to the operator.
        let losesShownOnly: Bool
        /// Whether lost addresses are deferred for a while before they are rejected.
        let defersLost: Bool
        let check: () throws(SyncError) -> Void
    }

    /// An entry of the address that is being compared.
    private struct Listing {
        var source: Int
        var flags: RecipientFlags
        /// Its object within `objects`.
        var object: Range<Int>
    }

    /// The flags of the address that is being compared: in the old list and in the new one, nil if it isn't listed there.
    private struct Transition {
        var before: RecipientFlags?
        var after: RecipientFlags?
        /// The flags that it had before it was lost: in the old list, or within the window before.
        var earlier: RecipientFlags?
        var loss: LossKind?
    }

    private let input: Input
    private var changes: ListChanges

    // The address that is being compared.
    private var key: [UInt8] = []
    private var old: [Listing] = []
    private var new: [Listing] = []
    private var objects: [UInt8] = []
    /// The number of the address's domain.
    private var domain = 0
    /// Whether the address keeps its listing, whatever the sources list, because its loss wasn't shown to the operator.
    private var isHeld = false

    private var nextCanary = 0
    /// Whether the domain of each number is a relay domain.
    private var isRelayed: [Bool] = []
    /// The names of the sources of the last loss, which are mostly those of the next.
    private var lastNames: (places: [Int], json: String) = ([], "[]")

    /// - Parameters:
    ///   - edited: the published snapshot, if the changes are to be made to it.
    ///   - folder: where entries that don't fit into memory are written.
    init(_ input: Input, edited: IndexBuilder?, folder: String) {
        self.input = input
        changes = ListChanges(
            sources: .init(repeating: .init(), count: input.kept.count),
            duplicates: .init(repeating: 0, count: input.kept.count),
            canariesFound: .init(repeating: false, count: input.canaries.count), upserts: EntryFile(folder: folder),
            deletions: EntryFile(folder: folder), edited: edited)
    }

    /// - Parameter cursor: all entries of the state, or those of the addresses that may have changed.
    mutating func compare(_ cursor: consuming EntryCursor) throws(SyncError) -> ListChanges {
        let sorted = try translatingErrors { () throws(SourceError) in try input.entries.sorted() }
        var stored = try cursor.next()
        var read = try next(sorted)
        var count = 0
        while stored != nil || read != nil {
            count += 1
            if count & 0x1fff == 0 { try input.check() }
            begin(stored, read)
            while let entry = stored, isSame(entry.key) {
                if let place = input.places[entry.tag] {
                    append(entry, place: place, toNew: false)
                } else {
                    changes.orphans += 1
                }
                stored = try cursor.next()
            }
            while let entry = read, isSame(entry.key) {
                append(entry, place: entry.tag, toNew: true)
                read = try next(sorted)
            }
            try settle()
        }
        return changes
    }

    private func next(_ sorted: SortedEntries) throws(SyncError) -> SourceEntry? {
        try translatingErrors { () throws(SourceError) in try sorted.next() }
    }

    // MARK: The entries of one address

    private mutating func begin(_ stored: SourceEntry?, _ read: SourceEntry?) {
        old.removeAll(keepingCapacity: true)
        new.removeAll(keepingCapacity: true)
        objects.removeAll(keepingCapacity: true)
        key.removeAll(keepingCapacity: true)
        switch (stored, read) {
        case (let stored?, let read?):
            key.append(contentsOf: read.key.precedes(stored.key) ? read.key : stored.key)
        case (let entry?, nil), (nil, let entry?): key.append(contentsOf: entry.key)
        case (nil, nil): break
        }
    }

    private func isSame(_ other: UnsafeBufferPointer<UInt8>) -> Bool {
        guard other.count == key.count else { return false }
        return key.withUnsafeBufferPointer { $0.compare(other) == 0 }
    }

    private mutating func append(_ entry: SourceEntry, place: Int, toNew: Bool) {
        let start = objects.count
        if !entry.object.isEmpty { objects.append(contentsOf: entry.object) }
        let listing = Listing(source: place, flags: entry.flags, object: start..<objects.count)
        guard toNew else { return old.append(listing) }
        // The order of the entries makes repetitions neighbours.
        if let last = new.last, isSameListing(last, listing) {
            changes.duplicates[place] += 1
            new[new.count - 1].flags = last.flags.merged(with: listing.flags)
        } else {
            new.append(listing)
        }
    }

    private func isSameListing(_ first: Listing, _ second: Listing) -> Bool {
        first.source == second.source && objects[first.object] == objects[second.object]
    }

    /// Whether an old entry stays in the state.
    private func keeps(_ listing: Listing) -> Bool {
        switch input.kept[listing.source] {
        case .all: true
        case .none: isHeld
        case .allExcept(let changes): isHeld || !changes.replaces(objects[listing.object])
        }
    }

    /// Whether a source goes on listing the address in this way.
    private func isUnchanged(_ listing: Listing) -> Bool {
        keeps(listing) || new.contains { isSameListing($0, listing) && $0.flags == listing.flags }
    }

    private func keepsAny(of source: Int) -> Bool { old.contains { $0.source == source && keeps($0) } }

    // MARK: The change of one address

    /// Compares the old and new listings of the address, writes its entries and counts it.
    private mutating func settle() throws(SyncError) {
        isHeld = false
        domain = numberOfDomain()
        var change = Transition(before: flags(of: old), after: flagsAfter())
        // An address that is listed again within the window, but restricted, is lost in another way.
        change.earlier =
            change.before == nil && change.after?.isRestricted == true
            ? try input.recorder.flags(ofGone: key) : change.before
        if input.losesShownOnly, let kind = loss(from: change.earlier, to: change.after),
            try !input.recorder.wasShown(key, kind)
        {
            isHeld = true
            changes.held += 1
            changes.heldSources.formUnion((old + new).map(\.source))
            new.removeAll(keepingCapacity: true)
            change.after = change.before
        }
        for listing in old where !keeps(listing) && !new.contains(where: { isSameListing($0, listing) }) {
            try write(listing, to: changes.deletions)
        }
        for listing in new where !old.contains(where: { isSameListing($0, listing) && $0.flags == listing.flags }) {
            try write(listing, to: changes.upserts)
        }
        if key.first == UInt8(ascii: "@"), change.before != nil, change.after != nil { noteRedirection() }
        change.loss = loss(from: change.before ?? change.earlier, to: change.after)
        count(change)
        list(change, hasReturned: try record(change))
    }

    private func flags(of listings: [Listing]) -> RecipientFlags? {
        var flags: RecipientFlags?
        for listing in listings { flags = flags?.merged(with: listing.flags) ?? listing.flags }
        return flags
    }

    private func flagsAfter() -> RecipientFlags? {
        var after = flags(of: new)
        for listing in old where keeps(listing) { after = after?.merged(with: listing.flags) ?? listing.flags }
        return after
    }

    private mutating func numberOfDomain() -> Int {
        key.withUnsafeBufferPointer { key in
            let at = key.lastIndex(of: UInt8(ascii: "@")) ?? -1
            let number = changes.domains.insert(key.slice(at + 1..<key.count))
            if number == changes.byDomain.count {
                changes.byDomain.append(.init())
                isRelayed.append(input.relay.contains(key.slice(at + 1..<key.count)))
            }
            return number
        }
    }

    /// In what way the address is lost; nil if it isn't, or belongs to no relay domain.
    private func loss(from before: RecipientFlags?, to after: RecipientFlags?) -> LossKind? {
        guard let before, isRelayed[domain] else { return nil }
        guard let after else { return .gone }
        return !before.isRestricted && after.isRestricted ? .restricted : nil
    }

    /// Notes that an alias domain has the recipients of another domain than before.
    private mutating func noteRedirection() {
        func targets(_ listings: [Listing]) -> [String] {
            Set(
                listings.filter { $0.flags.contains(.aliasDomain) }
                    .map { String(decoding: objects[$0.object], as: UTF8.self) }
            ).sorted()
        }
        let (before, after) = (targets(old), targets(old.filter(keeps) + new))
        guard !before.isEmpty, !after.isEmpty, before != after, isRelayed[domain] else { return }
        let name = changes.domains[domain]
        changes.redirected.append(
            RelayDomainChange(
                domain: name,
                text:
                    "relay domain \(name) would have the recipients of \(after.joined(separator: ", ")) instead of those of "
                    + before.joined(separator: ", ")))
    }

    // MARK: Results

    private mutating func count(_ change: Transition) {
        let (isBefore, isAfter) = (change.before != nil, change.after != nil)
        changes.byDomain[domain].add(before: isBefore, after: isAfter, loss: change.loss)
        if isRelayed[domain] { changes.total.add(before: isBefore, after: isAfter, loss: change.loss) }
        // Once for each source that lists the address, though several of its objects may. A source's entries are neighbours.
        for (index, listing) in old.enumerated() where index == 0 || old[index - 1].source != listing.source {
            changes.sources[listing.source].before += 1
            if keepsAny(of: listing.source) { changes.sources[listing.source].after += 1 }
            // Not lost by the sources that list it as before.
            guard let loss = change.loss,
                old.contains(where: { $0.source == listing.source && !isUnchanged($0) })
            else { continue }
            changes.sources[listing.source].losses.add(loss)
        }
        for (index, listing) in new.enumerated() where index == 0 || new[index - 1].source != listing.source {
            if !keepsAny(of: listing.source) { changes.sources[listing.source].after += 1 }
            if change.loss == .restricted, old.isEmpty { changes.sources[listing.source].losses.add(.restricted) }
        }
    }

    /// Records a loss or a return; returns whether the address was leaving and is listed again.
    private mutating func record(_ change: Transition) throws(SyncError) -> Bool {
        if let loss = change.loss {
            try input.recorder.recordLoss(
                of: key, loss, domain: changes.domains[domain], flags: change.earlier ?? [],
                sources: namesOfLosingSources())
        }
        guard let after = change.after else { return false }
        let hasReturned = change.before == nil ? try input.recorder.recordReturn(of: key, .gone) : false
        if !after.isRestricted, change.before?.isRestricted ?? true {
            _ = try input.recorder.recordReturn(of: key, .restricted)
        }
        return hasReturned
    }

    /// The names of the sources by which the address is lost, as JSON.
    private mutating func namesOfLosingSources() -> String {
        let places = (old.isEmpty ? new : old.filter { !isUnchanged($0) }).map(\.source)
        if places != lastNames.places {
            let names = Set(places.filter { input.names.indices.contains($0) }).sorted().map { input.names[$0] }
            let json = (try? JSONEncoder().encode(names)).map { String(decoding: $0, as: UTF8.self) }
            lastNames = (places, json ?? "[]")
        }
        return lastNames.json
    }

    /// Puts the address into the lists of changes and the edited snapshot, and counts what the new list has.
    private mutating func list(_ change: Transition, hasReturned: Bool) {
        let (before, after) = (change.before, change.after)
        key.withUnsafeBufferPointer { key in
            if before != after {
                let leaving = change.loss == .gone && input.defersLost ? before?.union(.leaving) : nil
                changes.edited?.set(key, after ?? leaving)
            }
            if let before { changes.sizeBefore.add(before) }
            switch (before, after) {
            case (nil, .some): if hasReturned { changes.returned.append(key) } else { changes.added.append(key) }
            case (.some, nil): changes.removed.append(key)
            case (let before?, let after?) where before != after: changes.changed.append(key)
            default: break
            }
            guard let after else { return }
            input.entries.noteListed(key)
            changes.size.add(after)
            // If it is restricted only now, the snapshot doesn't hold it as it is.
            if let held = input.unknown?.lookup(key), !held.contains(.leaving), held.isRestricted || !after.isRestricted
            {
                changes.heldByUnknown += 1
            }
            while nextCanary < input.canaries.count {
                let order = input.canaries[nextCanary].withUnsafeBufferPointer { $0.compare(key) }
                if order > 0 { break }
                changes.canariesFound[nextCanary] = order == 0
                nextCanary += 1
            }
        }
    }

    private func write(_ listing: Listing, to file: EntryFile) throws(SyncError) {
        try withBytes(of: key) { key throws(SyncError) in
            try withBytes(of: objects) { objects throws(SyncError) in
                let entry = SourceEntry(
                    key: key, tag: listing.source, flags: listing.flags, object: objects.slice(listing.object))
                try translatingErrors { () throws(SourceError) in try file.append(entry) }
            }
        }
    }
}

extension RecipientFlags {
    /// Whether only some senders may write to the recipient.
    var isRestricted: Bool { !isDisjoint(with: [.internalOnly, .disabled]) }
}
