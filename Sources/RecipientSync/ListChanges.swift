import RecipientIndex
import RecipientSources
import System

/// The changes from the list in the state to a new list: the counts that the guards judge, and the entries to write if they approve.
struct ListChanges {
    /// The addresses of the list, a source or a domain.
    struct Counts {
        /// How many it listed.
        var before = 0
        /// How many it lists now.
        var after = 0
        /// How many of the old ones no source lists any more.
        var lost = 0
        /// How many every sender could write to, and some senders can't any more.
        var restricted = 0

        /// Counts an address that was listed before, is listed afterwards, or was lost.
        mutating func add(before isBefore: Bool, after isAfter: Bool, loss: LossKind?) {
            if isBefore { before += 1 }
            if isAfter { after += 1 }
            if let loss { add(loss) }
        }

        mutating func add(_ loss: LossKind) {
            switch loss {
            case .gone: lost += 1
            case .restricted: restricted += 1
            }
        }

        var losesAny: Bool { lost + restricted > 0 }
    }

    /// The addresses in relay domains; the loss of others is none, since Postern doesn't accept mail for them.
    var total = Counts()
    var catchAllDomains = 0
    var aliasDomains = 0
    /// How many addresses the new list has, catch-all and alias domains included.
    var listed = 0
    /// How many addresses the old list had, and how many of them were catch-all and alias domains.
    var listedBefore = 0
    var catchAllDomainsBefore = 0
    var aliasDomainsBefore = 0
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
    /// How many entries of the state belong to no source that it knows.
    var orphans = 0
    /// How many losses are left out of the new list, because the person who accepts others was not shown them.
    var held = 0
    /// The places of the sources of these losses: their entries in the state aren't those of their list.
    var heldSources: Set<Int> = []
    /// Whether each canary is listed, in sorted order.
    var canariesFound: [Bool]
    /// How many addresses of the new list the snapshot of another state holds.
    var heldByUnknown = 0
    /// Entries to write to the state and to delete from it; their tags are places in `sources`.
    let upserts: EntryFile
    let deletions: EntryFile
    /// The published snapshot with these changes; nil if the new snapshot is made from the state.
    var edited: IndexBuilder?

    /// Whether an address is lost.
    var losesAny: Bool { total.losesAny || byDomain.contains(where: \.losesAny) || sources.contains(where: \.losesAny) }

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
        listed += list.listed - listedBefore
        catchAllDomains += list.catchAllDomains - catchAllDomainsBefore
        aliasDomains += list.aliasDomains - aliasDomainsBefore
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
        for (number, counts) in byDomain.enumerated() {
            var name = domains[number]
            guard name.withUTF8({ relay.contains($0) }) else { continue }
            total.before += counts.before
            total.after += counts.after
        }
    }
}
