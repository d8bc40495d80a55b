import GRDB
import Glibc
import RecipientIndex
import RecipientSources
import System

/// What a new list changes against the list in the state: the counts that the guards judge, and what to write if they agree.
struct Comparison {
    /// How many addresses a source or domain listed before, lists now, would lose to no source at all, and would restrict: everyone
    /// could write to them, and then some couldn't any more.
    struct Tally {
        var before = 0
        var after = 0
        var lost = 0
        var restricted = 0
    }

    /// Domains that are still relayed; recipients of others are of no use, so their loss is none.
    var total = Tally()
    var catchAllDomains = 0
    var aliasDomains = 0
    /// How many addresses the new list has, catch-all domains among them.
    var listed = 0
    /// The same of the old list.
    var listedBefore = 0
    var catchAllDomainsBefore = 0
    var aliasDomainsBefore = 0
    /// By source, in the order of the configuration, then those that are no longer configured.
    var sources: [Tally]
    var duplicates: [Int]
    var domains = ByteTable()
    var byDomain: [Tally] = []
    var added = ChangeList()
    var removed = ChangeList()
    var changed = ChangeList()
    /// Addresses that were leaving and are listed again; not among `added`.
    var returned = ChangeList()
    /// Alias domains whose recipients would be those of another domain than before: the domain, and a clause.
    var redirected: [(domain: String, text: String)] = []
    /// How many entries of the state belong to no source that it knows.
    var orphans = 0
    /// How many losses stay out of the new list, since the person who accepts others was not shown them.
    var held = 0
    /// The sources of these, by place: what the state has of them isn't what they list.
    var heldSources: Set<Int> = []
    /// The canaries that were met, by their place in sorted order.
    var canariesFound: [Bool]
    /// How many recipients of the new list a snapshot of unknown origin holds.
    var heldByForeign = 0
    /// Entries to write and to delete; their tags are places in `sources`.
    let upserts: SpillFile
    let deletions: SpillFile
    /// The published snapshot with the changes made to it; nil where the new one is made from the state.
    var edited: IndexBuilder?

    /// Whether a recipient is lost.
    var losesAny: Bool {
        total.lost + total.restricted > 0 || byDomain.contains { $0.lost + $0.restricted > 0 }
            || sources.contains { $0.lost + $0.restricted > 0 }
    }

    var changesRecipients: Bool { added.count + removed.count + changed.count + returned.count > 0 }
}

/// Which entries of a source in the state stay as they are.
enum Retention {
    /// All: the source wasn't read, or hasn't changed.
    case all
    /// None: it was read anew.
    case none
    /// All but those of some objects.
    case unless(ObjectChanges)
}

extension Comparison {
    /// Makes the counts of a walk over some addresses those of the whole list, from what was known of it before.
    ///
    /// - Parameters:
    ///   - decision: the list as it was.
    ///   - sourcesBefore: how many addresses each source listed.
    ///   - domainsBefore: how many addresses each domain had.
    mutating func widen(
        _ decision: Decision, sourcesBefore: [Int], domainsBefore: [String: Int], relay: DomainSet
    ) {
        listed += decision.listed - listedBefore
        catchAllDomains += decision.catchAllDomains - catchAllDomainsBefore
        aliasDomains += decision.aliasDomains - aliasDomainsBefore
        for (place, before) in sourcesBefore.enumerated() {
            sources[place].after += before - sources[place].before
            sources[place].before = before
        }
        for (name, before) in domainsBefore {
            let number = domains.insert(name)
            if number == byDomain.count { byDomain.append(.init()) }
            byDomain[number].after += before - byDomain[number].before
            byDomain[number].before = before
        }
        total = .init(before: 0, after: 0, lost: total.lost, restricted: total.restricted)
        for (number, tally) in byDomain.enumerated() {
            var name = domains[number]
            guard name.withUTF8({ relay.contains($0) }) else { continue }
            total.before += tally.before
            total.after += tally.after
        }
    }
}

/// Walks the state's entries and the sorted new ones side by side, once, in memory that doesn't grow with either.
struct Comparer {
    private struct Item {
        var source: Int
        var flags: RecipientFlags
        /// Its object within `objects`.
        var object: Range<Int>
    }

    private var result: Comparison
    private let intake: EntryIntake
    /// For each source, which of its entries in the state stay as they are.
    private let retained: [Retention]
    /// Places of the sources by their ids in the state.
    private let places: [Int: Int]
    private let relay: DomainSet
    private let canaries: [[UInt8]]
    private let foreign: IndexSnapshot?
    private let losses: LossPolicy
    private let check: () throws(SyncError) -> Void

    /// The address at hand.
    private var key: [UInt8] = []
    private var old: [Item] = []
    private var new: [Item] = []
    private var objects: [UInt8] = []
    private var nextCanary = 0
    private var relayed: [Bool] = []
    /// Whether the address at hand stays as it was, whatever the sources list.
    private var isHeld = false
    /// The names of the sources of the last loss, which are mostly those of the next.
    private var lastNames: (places: [Int], text: String) = ([], "[]")

    /// - Parameters:
    ///   - retained: for each place of a source, which of the state's entries stand for it.
    ///   - places: by the source's id in the state.
    ///   - canaries: keys in order.
    ///   - foreign: a published snapshot that the state knows nothing of.
    ///   - edited: the published snapshot, if that is to be changed.
    ///   - losses: what is done about addresses that go.
    init(
        intake: EntryIntake, retained: [Retention], places: [Int: Int], relay: DomainSet, canaries: [[UInt8]],
        foreign: IndexSnapshot?, edited: IndexBuilder?, losses: LossPolicy, folder: String,
        check: @escaping () throws(SyncError) -> Void
    ) {
        self.intake = intake
        self.retained = retained
        self.places = places
        self.relay = relay
        self.canaries = canaries
        self.foreign = foreign
        self.losses = losses
        self.check = check
        result = Comparison(
            sources: .init(repeating: .init(), count: retained.count),
            duplicates: .init(repeating: 0, count: retained.count),
            canariesFound: .init(repeating: false, count: canaries.count), upserts: SpillFile(folder: folder),
            deletions: SpillFile(folder: folder), edited: edited)
    }

    /// - Parameter cursor: all entries of the state, or those of the addresses that may have changed.
    mutating func compare(_ cursor: consuming EntryCursor) throws(SyncError) -> Comparison {
        let sorted = try translatingErrors { () throws(SourceError) in try intake.finish() }
        var stored = try cursor.next()
        var pulled = try next(sorted)
        var count = 0
        while stored != nil || pulled != nil {
            count += 1
            if count & 0x1fff == 0 { try check() }
            begin(stored, pulled)
            while let entry = stored, isSame(entry.key) {
                if let place = places[entry.tag] {
                    append(entry, place: place, toNew: false)
                } else {
                    result.orphans += 1
                }
                stored = try cursor.next()
            }
            while let entry = pulled, isSame(entry.key) {
                if let place = intake.owner(of: entry.tag) { append(entry, place: place, toNew: true) }
                pulled = try next(sorted)
            }
            try reconcile()
        }
        return result
    }

    /// The next entry of a pull that counts.
    private func next(_ sorted: SortedEntries) throws(SyncError) -> Entry? {
        while let entry = try translatingErrors({ () throws(SourceError) in try sorted.next() }) {
            if intake.owner(of: entry.tag) != nil { return entry }
        }
        return nil
    }

    private mutating func begin(_ stored: Entry?, _ pulled: Entry?) {
        old.removeAll(keepingCapacity: true)
        new.removeAll(keepingCapacity: true)
        objects.removeAll(keepingCapacity: true)
        key.removeAll(keepingCapacity: true)
        switch (stored, pulled) {
        case (let stored?, let pulled?):
            key.append(contentsOf: pulled.key.precedes(stored.key) ? pulled.key : stored.key)
        case (let entry?, nil), (nil, let entry?): key.append(contentsOf: entry.key)
        case (nil, nil): break
        }
    }

    private func isSame(_ other: UnsafeBufferPointer<UInt8>) -> Bool {
        guard other.count == key.count else { return false }
        return key.withUnsafeBufferPointer { $0.compare(other) == 0 }
    }

    private mutating func append(_ entry: Entry, place: Int, toNew: Bool) {
        let start = objects.count
        if !entry.object.isEmpty { objects.append(contentsOf: entry.object) }
        let item = Item(source: place, flags: entry.flags, object: start..<objects.count)
        guard toNew else { return old.append(item) }
        // The order of the entries makes repetitions neighbours.
        if let last = new.last, isSameListing(last, item) {
            result.duplicates[place] += 1
            new[new.count - 1].flags = last.flags.merged(with: item.flags)
        } else {
            new.append(item)
        }
    }

    private func isSameListing(_ first: Item, _ second: Item) -> Bool {
        first.source == second.source && objects[first.object] == objects[second.object]
    }

    private func retains(_ item: Item) -> Bool {
        switch retained[item.source] {
        case .all: true
        case .none: isHeld
        case .unless(let changes): isHeld || !changes.replaces(objects[item.object])
        }
    }

    /// Settles the address at hand: what is written, what it counts for.
    private mutating func reconcile() throws(SyncError) {
        isHeld = false
        let before = flags(of: old)
        var after = flagsAfter()
        let domain = domain()
        // One that is listed again soon, but restricted, is lost in another way.
        let earlier = before == nil && after?.isRestricted == true ? try goneFlags() : before
        if losses.acceptsShown, let kind = loss(earlier, after, domain), try !wasShown(kind) {
            isHeld = true
            result.held += 1
            result.heldSources.formUnion(old.map(\.source))
            result.heldSources.formUnion(new.map(\.source))
            new.removeAll(keepingCapacity: true)
            after = before
        }
        for item in old where !retains(item) && !new.contains(where: { isSameListing($0, item) }) {
            try write(item, to: result.deletions)
        }
        for item in new where !old.contains(where: { isSameListing($0, item) && $0.flags == item.flags }) {
            try write(item, to: result.upserts)
        }
        if key.first == UInt8(ascii: "@"), before != nil, after != nil { noteRedirection(domain) }
        try count(before, after, loss(before ?? earlier, after, domain), earlier ?? [], domain)
    }

    /// The flags that an address had that has gone within the window; nil for another one.
    private func goneFlags() throws(SyncError) -> RecipientFlags? {
        try withKey { recorder, key throws(SyncError) in try recorder.goneFlags(key) }
    }

    /// Notes that the recipients of a whole domain would be others.
    private mutating func noteRedirection(_ domain: Int) {
        func targets(_ items: [Item]) -> [String] {
            Set(
                items.filter { $0.flags.contains(.aliasDomain) }
                    .map { String(decoding: objects[$0.object], as: UTF8.self) }
            ).sorted()
        }
        let (old, new) = (targets(old), targets(old.filter(retains) + new))
        guard !old.isEmpty, !new.isEmpty, old != new, relayed[domain] else { return }
        let name = result.domains[domain]
        result.redirected.append(
            (
                name,
                "relay domain \(name) would have the recipients of \(new.joined(separator: ", ")), where it had those of "
                    + old.joined(separator: ", ")
            ))
    }

    private func flags(of items: [Item]) -> RecipientFlags? {
        var flags: RecipientFlags?
        for item in items { flags = flags?.merged(with: item.flags) ?? item.flags }
        return flags
    }

    private func flagsAfter() -> RecipientFlags? {
        var after: RecipientFlags?
        for item in old where retains(item) { after = after?.merged(with: item.flags) ?? item.flags }
        for item in new { after = after?.merged(with: item.flags) ?? item.flags }
        return after
    }

    /// The number of the address's domain among those of the result.
    private mutating func domain() -> Int {
        key.withUnsafeBufferPointer { key in
            let at = key.lastIndex(of: UInt8(ascii: "@")) ?? -1
            let domain = result.domains.insert(key.slice(at + 1..<key.count))
            if domain == result.byDomain.count {
                result.byDomain.append(.init())
                relayed.append(relay.contains(key.slice(at + 1..<key.count)))
            }
            return domain
        }
    }

    /// In what way the address is lost; nil where it isn't, or belongs to no relay domain.
    private func loss(_ before: RecipientFlags?, _ after: RecipientFlags?, _ domain: Int) -> LossKind? {
        guard let before, relayed[domain] else { return nil }
        guard let after else { return .gone }
        return !before.isRestricted && after.isRestricted ? .restricted : nil
    }

    /// The names of the sources by which the address is lost, as JSON.
    private mutating func sourceNames() -> String {
        let places = (old.isEmpty ? new : old.filter { !isUnchanged($0) }).map(\.source)
        if places != lastNames.places { lastNames = (places, losses.names(places)) }
        return lastNames.text
    }

    private func wasShown(_ kind: LossKind) throws(SyncError) -> Bool {
        try withKey { recorder, key throws(SyncError) in try recorder.wasShown(key, kind) }
    }

    private func withKey<Value>(
        _ body: (LossRecorder, UnsafeBufferPointer<UInt8>) throws(SyncError) -> Value
    ) throws(SyncError) -> Value {
        try key.withUnsafeBufferPointer { key in
            Result { () throws(SyncError) in try body(losses.recorder, key) }
        }.get()
    }

    private mutating func count(
        _ before: RecipientFlags?, _ after: RecipientFlags?, _ loss: LossKind?, _ earlier: RecipientFlags, _ domain: Int
    ) throws(SyncError) {
        Self.add(before != nil, after != nil, loss, to: &result.byDomain[domain])
        if relayed[domain] { Self.add(before != nil, after != nil, loss, to: &result.total) }
        countSources(loss)
        var isBack = false
        if let loss {
            let name = result.domains[domain]
            let sources = sourceNames()
            try withKey { recorder, key throws(SyncError) in
                try recorder.lose(key, loss, domain: name, flags: earlier, sources: sources)
            }
        }
        if let after {
            if before == nil {
                isBack = try withKey { recorder, key throws(SyncError) in try recorder.regain(key, .gone) }
            }
            if !after.isRestricted, before?.isRestricted ?? true {
                _ = try withKey { recorder, key throws(SyncError) in try recorder.regain(key, .restricted) }
            }
        }
        key.withUnsafeBufferPointer { key in
            if before != after {
                result.edited?.set(key, after ?? (loss == .gone && losses.defers ? before?.union(.leaving) : nil))
            }
            if let before { countBefore(before) }
            switch (before, after) {
            case (nil, .some): if isBack { result.returned.append(key) } else { result.added.append(key) }
            case (.some, nil): result.removed.append(key)
            case (let before?, let after?) where before != after: result.changed.append(key)
            default: break
            }
            guard let after else { return }
            intake.targets.noteListed(key)
            result.listed += 1
            if after.contains(.catchAll) { result.catchAllDomains += 1 }
            if after.isAliasAlone { result.aliasDomains += 1 }
            // One that is restricted now is none that the snapshot holds.
            if let foreign, let held = foreign.lookup(key), !held.contains(.leaving),
                held.isRestricted || !after.isRestricted
            {
                result.heldByForeign += 1
            }
            while nextCanary < canaries.count {
                let order = canaries[nextCanary].withUnsafeBufferPointer { $0.compare(key) }
                if order > 0 { break }
                result.canariesFound[nextCanary] = order == 0
                nextCanary += 1
            }
        }
    }

    private mutating func countBefore(_ before: RecipientFlags) {
        result.listedBefore += 1
        if before.contains(.catchAll) { result.catchAllDomainsBefore += 1 }
        if before.isAliasAlone { result.aliasDomainsBefore += 1 }
    }

    /// Counts the address once for each source that lists it, though several of its objects may.
    private mutating func countSources(_ loss: LossKind?) {
        // A source's items are neighbours in both.
        for (index, item) in old.enumerated() where index == 0 || old[index - 1].source != item.source {
            result.sources[item.source].before += 1
            if isKept(by: item.source) { result.sources[item.source].after += 1 }
            // Not by those that list it as before, however few may write to it by them.
            guard let loss, old.contains(where: { $0.source == item.source && !isUnchanged($0) }) else { continue }
            switch loss {
            case .gone: result.sources[item.source].lost += 1
            case .restricted: result.sources[item.source].restricted += 1
            }
        }
        for (index, item) in new.enumerated()
        where index == 0 || new[index - 1].source != item.source {
            if !isKept(by: item.source) { result.sources[item.source].after += 1 }
            if loss == .restricted, old.isEmpty { result.sources[item.source].restricted += 1 }
        }
    }

    /// Whether a source goes on listing the address in this way.
    private func isUnchanged(_ item: Item) -> Bool {
        retains(item) || new.contains { isSameListing($0, item) && $0.flags == item.flags }
    }

    private func isKept(by source: Int) -> Bool { old.contains { $0.source == source && retains($0) } }

    private static func add(_ before: Bool, _ after: Bool, _ loss: LossKind?, to tally: inout Comparison.Tally) {
        if before { tally.before += 1 }
        if after { tally.after += 1 }
        switch loss {
        case .gone: tally.lost += 1
        case .restricted: tally.restricted += 1
        case nil: break
        }
    }

    private func write(_ item: Item, to file: SpillFile) throws(SyncError) {
        var failure: SourceError?
        key.withUnsafeBufferPointer { key in
            objects.withUnsafeBufferPointer { objects in
                let entry = Entry(key: key, tag: item.source, flags: item.flags, object: objects.slice(item.object))
                do throws(SourceError) {
                    try EntryRecord.write(entry) { bytes throws(SourceError) in try file.append(bytes) }
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw SyncError(failure) }
    }
}
