import RecipientIndex
import RecipientSources
import System

/// The changes from the list in the state to a new list: the counts that the guards judge, and the entries to write if they approve.
struct ListChanges {
    /// The addresses of the list, a source or a domain.
    struct Counts {
        /// How many addresses it listed.
        var before = 0
        /// How many addresses it lists now.
        var after = 0
        var losses = LossCount()

        /// Counts an address that was listed before, is listed afterwards, or was lost.
        mutating func add(before isBefore: Bool, after isAfter: Bool, loss: LossKind?) {
            if isBefore { before += 1 }
            if isAfter { after += 1 }
            if let loss { losses.add(loss) }
        }

        /// Adds the addresses that were not compared: they are listed as before.
        mutating func extend(to allBefore: Int) {
            after += allBefore - before
            before = allBefore
        }
    }

    /// How many addresses a list has, and how many of them are catch-all and alias domains.
    struct Size {
        var listed = 0
        var catchAllDomains = 0
        /// Without those that are catch-all domains, too.
        var aliasDomains = 0

        mutating func add(_ flags: RecipientFlags) {
            listed += 1
            if flags.contains(.catchAll) {
                catchAllDomains += 1
            } else if flags.contains(.aliasDomain) {
                aliasDomains += 1
            }
        }
    }

    /// The addresses in relay domains. Postern accepts no mail for others, so their loss doesn't count.
    var total = Counts()
    var size = Size()
    var sizeBefore = Size()
    /// By source, in the order of the configuration, then the sources that are no longer configured.
    var sources: [Counts]
    /// How many entries of each source repeat an address.
    var duplicates: [Int]
    /// The domains of the addresses, and their counts by number.
    var domains = ByteTable()
    var byDomain: [Counts] = []
    var added = ChangeList()
    var removed = ChangeList()
    var changed = ChangeList()
    /// Addresses that were leaving and are listed again; not among `added`.
    var returned = ChangeList()
    /// Alias domains whose recipients would be those of another domain than before.
    var redirected: [RelayDomainChange] = []
    /// How many entries of the state belong to a source that the state doesn't have.
    var orphans = 0
    /// How many losses are left out of the new list, because the person who accepts others was not shown them.
    var held = 0
    /// The indices in `configuration.sources` of the sources of these losses: the state holds other entries of them
    /// than they list.
    var heldSources: Set<Int> = []
    /// Whether each canary is listed, in sorted order.
    var canariesFound: [Bool]
    /// How many addresses of the new list the snapshot of another state holds.
    var heldByUnknown = 0
    /// Entries to write to the state and to delete from it; their tags are indices in `configuration.sources`.
    let upserts: EntryFile
    let deletions: EntryFile
    /// The published snapshot with these changes; nil if the new snapshot is made from the state.
    var edited: IndexBuilder?

    var losesAny: Bool { ([total] + byDomain + sources).contains { $0.losses != LossCount() } }

    var changesRecipients: Bool { added.count + removed.count + changed.count + returned.count > 0 }

    /// Turns the counts of a comparison of some addresses into those of the whole list.
    ///
    /// - Parameters:
    ///   - list: the old list.
    ///   - sourcesBefore: how many addresses each source listed.
    ///   - domainsBefore: how many addresses each domain had.
    ///   - relay: the relay domains.
    mutating func extend(
        to list: ApprovedList, sourcesBefore: [Int], domainsBefore: [String: Int], relay: DomainSet
    ) {
        size.listed += list.listed - sizeBefore.listed
        size.catchAllDomains += list.catchAllDomains - sizeBefore.catchAllDomains
        size.aliasDomains += list.aliasDomains - sizeBefore.aliasDomains
        for (place, before) in sourcesBefore.enumerated() { sources[place].extend(to: before) }
        for (name, before) in domainsBefore {
            let number = domains.insert(name)
            if number == byDomain.count { byDomain.append(.init()) }
            byDomain[number].extend(to: before)
        }
        total = Counts(losses: total.losses)
        for (number, counts) in byDomain.enumerated() {
            var name = domains[number]
            guard name.withUTF8({ relay.contains($0) }) else { continue }
            total.before += counts.before
            total.after += counts.after
        }
    }
}
