import Foundation
import RejectionLog
import System

/// Recipients, senders and client networks that only show when rejections are seen together.
extension ReportBuilder {
    /// How many different unknown recipients a network may ask for before it counts as guessing.
    static let guessLimit = 20
    /// How many recipients the search for near misses begins with, most frequent first.
    private static let candidateLimit = 5_000
    private static let listedLimit = 100_000

    private static func date(_ milliseconds: Int64) -> Date { Timestamp.date(milliseconds: milliseconds) }

    private static func span(_ tally: Tally) -> Cell { .span(date(tally.first), date(tally.last)) }

    // MARK: Client networks

    /// The hashes of the networks that guessed recipients.
    static func guessers(_ networks: TallyTable) -> Set<UInt32> {
        var hashes: Set<UInt32> = []
        for position in networks.tallies.indices where isGuessing(networks.tallies[position]) {
            hashes.insert(networks.withValue(position) { ByteHash.short($0) })
        }
        return hashes
    }

    private static func isGuessing(_ network: Tally) -> Bool {
        network.harvest > 0 || network.peers.hashes.count >= guessLimit
    }

    /// True where every network that asked for the recipient, as far as is known, was guessing.
    private func isGuessed(_ recipient: Tally) -> Bool {
        !recipient.networks.hashes.isEmpty && recipient.networks.hashes.allSatisfy(guessers.contains)
    }

    /// Client networks that guessed recipients, most recipients first.
    func harvests() throws -> Section {
        var section = Section(
            "harvests", title: "Harvest attacks", note: "Client networks that guessed recipients.",
            columns: [
                .number("attempts", "Attempts"), .init("network", "Network", as: .name, at: .key),
                .init("name", "Name", as: .name, at: .beside),
                .init("recipients", "Recipients", as: .count, noun: "recipient", phrase: "{} tried"),
                .init("clients", "Clients", as: .count, noun: "client"),
                .init("stopped", "Stopped", as: .count, phrase: "{} stopped by the harvest limit"),
                .init(
                    "accepted", "Accepted",
                    as: .flag(yes: "other recipients accepted", no: "no recipient accepted"), csv: "accepting"),
                .when(),
            ])
        let networks = tallies[.network]
        let found = networks.tallies.indices.filter { position in
            networks.withValue(position) { !$0.isEmpty } && Self.isGuessing(networks.tallies[position])
        }
        guard !found.isEmpty else { return section }
        func address(_ position: Int) -> IPAddress { networks.withValue(position) { IPAddress(stored: $0) } }
        func attempts(_ tally: Tally) -> Int { Int(tally.unknown &+ tally.harvest) }
        func recipients(_ tally: Tally) -> DistinctSketch.Distinct {
            tally.peers.distinct(limit: TallyKind.network.peerLimit, of: attempts(tally))
        }
        let ranks = found.map { position in
            let tally = networks.tallies[position]
            return (position: position, recipients: recipients(tally).count, attempts: attempts(tally))
        }.sorted { left, right in
            if left.recipients != right.recipients { return left.recipients > right.recipients }
            if left.attempts != right.attempts { return left.attempts > right.attempts }
            return networks.precedes(left.position, right.position)
        }
        let clients = tallies[.client]
        var clientCounts: [UInt32: Int] = [:]
        for position in clients.tallies.indices {
            let hash = clients.withValue(position) { TallyKind.withNetwork(of: $0) { ByteHash.short($0) } }
            if guessers.contains(hash) { clientCounts[hash, default: 0] += 1 }
        }
        section.rows = try ranks.prefix(query.top).map { position, _, _ in
            let tally = networks.tallies[position]
            let hash = networks.withValue(position) { ByteHash.short($0) }
            let recipients = recipients(tally)
            return .init([
                .count(attempts(tally)), .text(address(position).clientNetworkText), .text(tally.name),
                .estimate(recipients.count, recipients.isEstimate), .count(max(1, clientCounts[hash] ?? 1)),
                .count(Int(tally.harvest)), try period.hasAccepted(from: address(position)).map(Cell.flag) ?? .none,
                Self.span(tally),
            ])
        }
        section.advice = [
            harvestAdvice(
                networks: found.count, attempts: ranks.reduce(0) { $0 &+ $1.attempts },
                stopped: found.reduce(0) { $0 &+ Int(networks.tallies[$1].harvest) },
                withoutAccepted: try found.count { try period.hasAccepted(from: address($0)) == false })
        ]
        return section
    }

    /// What to do about networks that guess; those of a provider have customers who write to listed recipients, too.
    private func harvestAdvice(networks: Int, attempts: Int, stopped: Int, withoutAccepted: Int) -> ReportFinding {
        let blocking =
            switch withoutAccepted {
            case 0:
                "Don't block these networks in the firewall: recipients were accepted from them, or may have been."
            case networks:
                "No recipient was accepted from these networks: block those in the firewall that return every day."
            default:
                "No recipient was accepted from \(ReportWords.grouped(withoutAccepted)) of these networks: block those in the "
                    + "firewall that return every day. The others have customers who write to you."
            }
        return .init(
            .harvest,
            "\(ReportWords.count(networks, "client network")) guessed recipients, with \(ReportWords.count(attempts, "attempt")); "
                + (stopped == 0
                    ? "no limit slowed them down."
                    : "\(ReportWords.grouped(stopped)) of these were stopped by the harvest limit."),
            action: (stopped == 0
                ? "No guess got through; a lower harvest.limit slows guessing down. " : "Nothing to do. ")
                + blocking)
    }

    // MARK: Recipients

    /// Rejected recipients close to a listed one, most frequent first.
    mutating func nearMisses() -> Section {
        var section = Section(
            "near_misses", title: "Near misses",
            note: "Recipients one or two slips away from a listed one: a typing error, or a renamed mailbox.",
            columns: [
                .number(), .init("recipient", "Rejected", as: .address, at: .key),
                .init("resembles", "Close to", as: .address, csv: "related", phrase: "close to {}"),
                .init("difference", "Difference", as: .text, csv: "text"),
                .init("senders", "Senders", as: .count, noun: "sender"), .when(),
            ])
        guard let isListed = context.isListed else { return section }
        var search = NearMissSearch(budget: context.lookups, relayDomains: context.relayDomains, isListed: isListed)
        let table = tallies[.recipient]
        var found: [(position: Int, count: Int64, hit: NearMissSearch.Hit)] = []
        var left: [Int] = []
        for position in table.top(Self.candidateLimit, by: \.unknown) {
            let tally = table.tallies[position]
            if isGuessed(tally) { continue }
            let text = table.text(position)
            if search.lists(text) { continue }
            if let hit = search.oneSlip(text) {
                found.append((position, tally.unknown, hit))
            } else {
                left.append(position)
            }
            if search.isExhausted { break }
        }
        for position in table.top(Self.candidateLimit, by: \.relay) {
            if search.isExhausted { break }
            if isGuessed(table.tallies[position]) { continue }
            if let hit = search.domainSlip(table.text(position)) {
                found.append((position, table.tallies[position].relay, hit))
            }
        }
        for position in left {
            if search.isExhausted { break }
            if let hit = search.twoSlips(table.text(position)) {
                found.append((position, table.tallies[position].unknown, hit))
            }
        }
        lookupsExhausted = search.isExhausted
        guard !found.isEmpty else { return section }
        let sorted = found.sorted {
            $0.count == $1.count ? table.text($0.position) < table.text($1.position) : $0.count > $1.count
        }
        section.rows = sorted.prefix(query.top).map { position, count, hit in
            let tally = table.tallies[position]
            let senders = tally.peers.distinct(limit: TallyKind.recipient.peerLimit, of: Int(count))
            return .init([
                .count(Int(count)), .text(table.text(position)), .text(hit.resembles), .text(hit.difference),
                .estimate(max(1, senders.count), senders.isEstimate), Self.span(tally),
            ])
        }
        let attempts = found.reduce(0) { $0 &+ Int($1.count) }
        section.advise(
            .nearMisses,
            "\(ReportWords.count(found.count, "rejected address", plural: "rejected addresses")) "
                + "\(found.count == 1 ? "looks" : "look") like a misspelling of a listed one "
                + "(\(ReportWords.count(attempts, "attempt"))).",
            action: "Read the near misses: tell the senders, or give a renamed mailbox its old address as an alias."
        )
        return section
    }

    /// Recipients that were rejected as unknown and are listed now, most frequent first.
    func listedNow() -> Section {
        var section = Section(
            "listed_now", title: "Rejected, and listed now",
            note: "The recipient index was late: senders were told that these recipients don't exist.",
            columns: [
                .number(), .init("recipient", "Recipient", as: .address, at: .key),
                .when("rejected {}", title: "Rejected"),
                .init("listed", "Listed", as: .time, phrase: "listed {}"),
                .init("late", "Late by", as: .duration, phrase: "{} late"),
            ])
        guard let isListed = context.isListed else { return section }
        let table = tallies[.recipient]
        let found = table.top(Self.listedLimit, by: \.unknown).filter { position in
            table.withValue(position) { isListed($0.bindMemory(to: UInt8.self)) }
        }
        guard !found.isEmpty else { return section }
        var (attempts, latest) = (0, 0)
        for position in found {
            let tally = table.tallies[position]
            attempts &+= Int(tally.unknown)
            let listed = indexes.first { $0.time > tally.last }?.time
            let late = Int(max(0, (listed ?? tally.last) &- tally.first) / 1000)
            latest = max(latest, late)
            guard section.rows.count < query.top else { continue }
            section.rows.append(
                .init([
                    .count(Int(tally.unknown)), .text(table.text(position)), Self.span(tally),
                    listed.map { .time(Self.date($0)) } ?? .none, .duration(late, isMinimum: listed == nil),
                ]))
        }
        let isOne = found.count == 1
        section.advise(
            .lateSync,
            "\(ReportWords.count(found.count, "recipient")) \(isOne ? "was" : "were") rejected "
                + "(\(ReportWords.count(attempts, "time"))) and \(isOne ? "is" : "are") listed now: the recipient index was "
                + "up to \(Words.duration(seconds: latest)) late.",
            action: "Ask the senders to try again, and shorten sync.interval if this happens again. "
                + "\"postern check ADDRESS\" shows the present verdict.")
        return section
    }

    // MARK: Senders

    /// Senders that have sent since the beginning of the period and aren't listed now, those first that have sent last.
    func unlistedSenders() throws -> Section {
        var section = Section(
            "unlisted_senders", title: "Unlisted senders",
            note: "These addresses send mail through this gateway, and answers to them are rejected.",
            columns: [
                .number("count", "Messages"), .init("address", "Sender", as: .address, at: .key),
                .init("last", "Last sent", as: .name, phrase: "last sent on {}"),
            ])
        let selection = query.selection
        guard selection.client == nil, selection.reason.map(["unknown", "unlisted-sender"].contains) ?? true else {
            return section
        }
        let senders = try period.unlistedSenders().filter { sender in
            var address = sender.address
            if let domain = selection.domain, !address.hasSuffix("@\(domain)") { return false }
            return address.withUTF8 { context.isUnknown?($0) ?? true }
        }
        guard !senders.isEmpty else { return section }
        section.rows = senders.prefix(query.top).map {
            .init([.count($0.count), .text($0.address), .text(Words.day($0.lastDay))])
        }
        let isOne = senders.count == 1
        section.advise(
            .unlistedSenders,
            "\(ReportWords.count(senders.count, "address", plural: "addresses")) of yours \(isOne ? "sends" : "send") mail "
                + "without being listed: answers to \(isOne ? "it" : "them") are rejected.",
            action:
                "Find the source that should list them: \"postern check ADDRESS\". Until it does, policy.unlisted_sender = "
                + "\"defer\" defers the answers instead.")
        return section
    }

    /// Pairs of sender and recipient that look like people, most days first.
    func correspondents() -> Section {
        var section = Section(
            "correspondents", title: "Regular correspondents",
            note: "These senders keep writing to a recipient that doesn't exist: to somebody who has left?",
            columns: [
                .number(), .init("sender", "Sender", as: .address, at: .key, empty: "<>"),
                .init("recipient", "Recipient", as: .address, csv: "related", phrase: "to {}"),
                .init("days", "Days", as: .count, noun: "day", phrase: "on {}"), .when(),
            ])
        let table = tallies[.pair]
        let length = query.selection.minutes.to - query.selection.minutes.from
        let leastDays = length > 8 * 1440 ? 3 : 2
        /// The hash of a pair's sender.
        func senderHash(_ position: Int) -> UInt64 {
            table.withValue(position) { pair in
                ByteHash.hash(UnsafeRawBufferPointer(rebasing: pair.prefix { $0 != 0x0a }))
            }
        }
        var recipientCounts: [UInt64: Int] = [:]
        for position in table.tallies.indices { recipientCounts[senderHash(position), default: 0] += 1 }
        var pairs: [(position: Int, sender: String, recipient: String, days: Int)] = []
        for position in table.tallies.indices {
            let tally = table.tallies[position]
            let days = tally.peers.hashes.count
            guard days >= leastDays, tally.count <= Int64(days) * 5, !isGuessed(tally),
                // A sender to many unknown recipients knows none of them.
                recipientCounts[senderHash(position)] ?? 0 <= 3
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
        guard !pairs.isEmpty else { return section }
        pairs.sort { left, right in
            let counts = (table.tallies[left.position].count, table.tallies[right.position].count)
            if left.days != right.days { return left.days > right.days }
            if counts.0 != counts.1 { return counts.0 > counts.1 }
            return (left.recipient, left.sender) < (right.recipient, right.sender)
        }
        section.rows = pairs.prefix(query.top).map { position, sender, recipient, days in
            let tally = table.tallies[position]
            return .init([
                .count(Int(tally.count)), .text(sender), .text(recipient), .count(days), Self.span(tally),
            ])
        }
        section.advise(
            .correspondents,
            "\(ReportWords.count(pairs.count, "sender")) \(pairs.count == 1 ? "keeps" : "keep") writing to a recipient that "
                + "doesn't exist: a few times on several days, like somebody who doesn't know that the recipient has left.",
            action:
                "Ask whether a successor should get the recipient's mail. \"postern check ADDRESS\" shows the present verdict."
        )
        return section
    }
}
