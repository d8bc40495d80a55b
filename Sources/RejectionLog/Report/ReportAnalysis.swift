import Foundation
import System

/// What only shows when refusals are seen together: attacks, slips, people.
struct ReportAnalysis {
    /// Sums over all that was found, also what is beyond the lists' length.
    struct Sums {
        var harvestNetworks = 0
        var harvestAttempts = 0
        var harvestStopped = 0
        /// Networks from which nothing was accepted.
        var harvestOnly = 0
        var nearMisses = 0
        var nearMissAttempts = 0
        var listedNow = 0
        var listedNowAttempts = 0
        var latest = 0
        var correspondents = 0
    }

    /// How many different unknown recipients make a harvest of what a network asks for.
    static let harvestLimit = 20
    /// How many recipients are looked at, most frequent first.
    private static let candidateLimit = 5_000
    private static let listedLimit = 100_000

    private let tallies: PeriodTallies
    private let query: ReportQuery
    private let context: ReportContext
    private var search: NearMissSearch?
    private var harvesters: Set<UInt32> = []
    private(set) var sums = Sums()

    /// True where the index could not be asked for all of it.
    private(set) var isExhausted = false

    init(tallies: PeriodTallies, query: ReportQuery, context: ReportContext) {
        self.tallies = tallies
        self.query = query
        self.context = context
        search = context.isListed.map {
            NearMissSearch(budget: context.lookups, relayDomains: context.relayDomains, isListed: $0)
        }
        let networks = tallies[.network]
        for position in networks.entries.indices where Self.isHarvest(networks.entries[position]) {
            harvesters.insert(networks.withValue(position) { ByteHash.short($0) })
        }
    }

    private static func isHarvest(_ entry: TallyTable.Entry) -> Bool {
        entry.harvest > 0 || entry.peers.hashes.count >= harvestLimit
    }

    // MARK: Attacks

    /// Networks that guessed, most recipients first.
    ///
    /// - Parameter accepted: whether a recipient was accepted from a network.
    mutating func harvests(accepted: (IPAddress) throws -> Bool?) rethrows -> [RejectionReport.Harvest] {
        let networks = tallies[.network]
        let clients = tallies[.client]
        var found = networks.entries.indices.filter { position in
            networks.withValue(position) { !$0.isEmpty } && Self.isHarvest(networks.entries[position])
        }
        guard !found.isEmpty else { return [] }
        sums.harvestNetworks = found.count
        for position in found {
            sums.harvestAttempts &+= Int(networks.entries[position].unknown &+ networks.entries[position].harvest)
            sums.harvestStopped &+= Int(networks.entries[position].harvest)
            if try accepted(networks.withValue(position) { IPAddress(stored: $0) }) == false { sums.harvestOnly += 1 }
        }
        let ranks = found.map { position in
            let entry = networks.entries[position]
            return (
                position: position, recipients: entry.guessedRecipients.count,
                attempts: entry.unknown &+ entry.harvest
            )
        }.sorted { left, right in
            if left.recipients != right.recipients { return left.recipients > right.recipients }
            if left.attempts != right.attempts { return left.attempts > right.attempts }
            return networks.precedes(left.position, right.position)
        }
        found = ranks.prefix(query.top).map(\.position)
        var members: [UInt32: Int] = [:]
        for position in clients.entries.indices {
            let hash = clients.withValue(position) { TallyKind.withNetwork(of: $0) { ByteHash.short($0) } }
            if harvesters.contains(hash) { members[hash, default: 0] += 1 }
        }
        return try found.map { position in
            let entry = networks.entries[position]
            let hash = networks.withValue(position) { ByteHash.short($0) }
            return .init(
                network: networks.withValue(position) { IPAddress(stored: $0).clientNetworkText }, name: entry.name,
                clients: max(1, members[hash] ?? 1), recipients: entry.guessedRecipients.count,
                recipientsEstimated: entry.guessedRecipients.isEstimate,
                attempts: Int(entry.unknown &+ entry.harvest), first: Self.date(entry.first),
                last: Self.date(entry.last),
                stopped: Int(entry.harvest),
                accepted: try accepted(networks.withValue(position) { IPAddress(stored: $0) }))
        }
    }

    /// True where all that asked, as far as is known, were guessing.
    private func isGuessed(_ entry: TallyTable.Entry) -> Bool {
        !entry.networks.hashes.isEmpty && entry.networks.hashes.allSatisfy(harvesters.contains)
    }

    // MARK: Slips

    /// Refused recipients close to a listed one, most frequent first.
    mutating func nearMisses() -> [RejectionReport.NearMiss] {
        guard var search else { return [] }
        let table = tallies[.recipient]
        var found: [(position: Int, count: Int64, hit: NearMissSearch.Hit)] = []
        var left: [Int] = []
        for position in table.top(Self.candidateLimit, by: \.unknown) {
            let entry = table.entries[position]
            if isGuessed(entry) { continue }
            let text = table.text(position)
            if search.lists(text) { continue }
            if let hit = search.oneSlip(text) {
                found.append((position, entry.unknown, hit))
            } else {
                left.append(position)
            }
            if search.isExhausted { break }
        }
        for position in table.top(Self.candidateLimit, by: \.relay) {
            if search.isExhausted { break }
            if isGuessed(table.entries[position]) { continue }
            if let hit = search.domainSlip(table.text(position)) {
                found.append((position, table.entries[position].relay, hit))
            }
        }
        for position in left {
            if search.isExhausted { break }
            if let hit = search.twoSlips(table.text(position)) {
                found.append((position, table.entries[position].unknown, hit))
            }
        }
        isExhausted = search.isExhausted
        self.search = search
        sums.nearMisses = found.count
        sums.nearMissAttempts = found.reduce(0) { $0 &+ Int($1.count) }
        return found.sorted {
            $0.count == $1.count ? table.text($0.position) < table.text($1.position) : $0.count > $1.count
        }
        .prefix(query.top).map { position, count, hit in
            let entry = table.entries[position]
            let senders = entry.peers.distinct(limit: TallyKind.recipient.peerLimit, of: Int(count))
            return .init(
                recipient: shown(table.text(position)), resembles: shown(hit.resembles), difference: hit.difference,
                count: Int(count), senders: max(1, senders.count), sendersEstimated: senders.isEstimate,
                first: Self.date(entry.first), last: Self.date(entry.last))
        }
    }

    /// Recipients that were refused as unknown and are listed now, most frequent first.
    mutating func listedNow(_ generations: Generations) -> [RejectionReport.ListedNow] {
        guard let isListed = context.isListed else { return [] }
        let table = tallies[.recipient]
        let found = table.top(Self.listedLimit, by: \.unknown).filter { position in
            table.withValue(position) { isListed($0.bindMemory(to: UInt8.self)) }
        }
        sums.listedNow = found.count
        var rows: [RejectionReport.ListedNow] = []
        for position in found {
            let entry = table.entries[position]
            sums.listedNowAttempts &+= Int(entry.unknown)
            let listed = generations.first(after: entry.last)
            let end = listed.map { Timestamp.milliseconds(since1970: $0) } ?? entry.last
            let late = Int(max(0, end &- entry.first) / 1000)
            sums.latest = max(sums.latest, late)
            if rows.count < query.top {
                rows.append(
                    .init(
                        recipient: shown(table.text(position)), count: Int(entry.unknown),
                        first: Self.date(entry.first),
                        last: Self.date(entry.last), listed: listed, late: late))
            }
        }
        return rows
    }

    // MARK: People

    /// Pairs of sender and recipient that look like people, most days first.
    mutating func correspondents() -> [RejectionReport.Correspondent] {
        let table = tallies[.pair]
        let length = query.minutes.to - query.minutes.from
        let leastDays = length > 8 * 1440 ? 3 : 2
        var bySender: [UInt64: Int] = [:]
        var pairs: [(position: Int, sender: String, recipient: String, days: Int)] = []
        for position in table.entries.indices {
            bySender[senderHash(position), default: 0] += 1
        }
        for position in table.entries.indices {
            let entry = table.entries[position]
            let days = entry.peers.hashes.count
            guard days >= leastDays, entry.count <= Int64(days) * 5, !isGuessed(entry),
                // Who writes to many that don't exist is no acquaintance of theirs.
                bySender[senderHash(position)] ?? 0 <= 3
            else { continue }
            let parts = table.text(position).split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            pairs.append((position, String(parts[0]), String(parts[1]), days))
        }
        if let isListed = context.isListed {
            pairs.removeAll { pair in
                var recipient = pair.recipient
                return recipient.withUTF8 { isListed($0) }
            }
        }
        sums.correspondents = pairs.count
        pairs.sort { left, right in
            let counts = (table.entries[left.position].count, table.entries[right.position].count)
            if left.days != right.days { return left.days > right.days }
            if counts.0 != counts.1 { return counts.0 > counts.1 }
            return (left.recipient, left.sender) < (right.recipient, right.sender)
        }
        return pairs.prefix(query.top).map { position, sender, recipient, days in
            let entry = table.entries[position]
            return .init(
                sender: shown(sender), recipient: shown(recipient), days: days, count: Int(entry.count),
                first: Self.date(entry.first), last: Self.date(entry.last))
        }
    }

    /// A hash of a pair's sender.
    private func senderHash(_ position: Int) -> UInt64 {
        tallies[.pair].withValue(position) { pair in
            ByteHash.hash(UnsafeRawBufferPointer(rebasing: pair.prefix { $0 != 0x0a }))
        }
    }

    private func shown(_ address: String) -> String { query.redact ? Redaction.redacted(address) : address }

    private static func date(_ milliseconds: Int64) -> Date { Timestamp.date(milliseconds: milliseconds) }
}

extension TallyTable.Entry {
    /// How many different recipients a network has guessed.
    fileprivate var guessedRecipients: DistinctSketch.Distinct {
        peers.distinct(limit: TallyKind.network.peerLimit, of: Int(unknown &+ harvest))
    }
}
