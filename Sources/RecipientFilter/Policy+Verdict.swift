import Foundation
public import MailAddress
public import RecipientIndex
import System

/// What is known of the client when a recipient is judged.
public struct ClientStanding: Sendable, Equatable {
    /// Whether it is in a trusted network or has authenticated.
    public var isTrusted: Bool
    /// Whether its network has asked for too many unknown recipients.
    public var isOverHarvestLimit: Bool
    /// Whether the message is a bounce: its sender is `<>`.
    public var isBounce: Bool

    /// A client's standing.
    public init(isTrusted: Bool = false, isOverHarvestLimit: Bool = false, isBounce: Bool = false) {
        self.isTrusted = isTrusted
        self.isOverHarvestLimit = isOverHarvestLimit
        self.isBounce = isBounce
    }
}

extension Policy {
    /// The verdict on one recipient: the rows of the verdict table, from the first down, the first one that holds. Rows 17 and
    /// 18 stand between 8 and 9, row 19 behind 13.
    ///
    /// A recipient that is leaving is deferred, unless it is listed without its detail: to that address its mail goes on going. A restriction
    /// holds until it is gone. A domain that takes all by the index is leaving with its entry there; its unlisted recipients are deferred.
    ///
    /// - Parameters:
    ///   - recipient: the path of RCPT TO as it was parsed, or why it is none.
    ///   - client: what is known of the client.
    ///   - index: the snapshot in force; nil while there is none.
    ///   - now: seconds since 1970.
    public func verdict(
        for recipient: Result<RecipientAddress, AddressError>, client: ClientStanding, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        guard case .success(let address) = recipient else { return .invalidPath }
        return verdict(for: address, client: client, index: index, now: now)
    }

    /// The same for what is a path.
    public func verdict(
        for address: RecipientAddress, client: ClientStanding, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        guard address.hasDomain else {
            let isPostmaster = address.withLocalPart { $0.elementsEqual("postmaster".utf8) }
            return isPostmaster ? .accept(2, .postmaster) : .invalidPath
        }
        let domain = address.withDomain { relayDomain($0) }
        if address.isRouted && !client.isTrusted { return .reject(3, .relay, .relay, domain) }
        guard let domain else {
            if client.isTrusted { return .accept(4, .trusted) }
            return index == nil && domainsFromIndex
                ? .tempfail(9, .noIndex, .noIndex, nil) : .reject(5, .relay, .relay)
        }
        if tables[domain].batv, let inner = address.withoutBounceTag {
            return verdict(for: inner, domain, client, index, now)
        }
        return verdict(for: address, domain, client, index, now)
    }

    private func verdict(
        for address: RecipientAddress, _ domain: Int, _ client: ClientStanding, _ index: IndexSnapshot?, _ now: Int64
    ) -> Verdict {
        // Most have no detail, and an address is long to pass on, even one that isn't there.
        guard address.mayHaveDetail(delimiters: tables[domain].delimiters),
            let bare = address.withoutDetail(delimiters: tables[domain].delimiters)
        else { return verdict(for: address, without: nil, domain, client, index, now) }
        return withUnsafePointer(to: bare) { verdict(for: address, without: $0, domain, client, index, now) }
    }

    /// Rows 6 to 19.
    ///
    /// - Parameter bare: the address without its detail, if it has one.
    private func verdict(
        for address: RecipientAddress, without bare: UnsafePointer<RecipientAddress>?, _ domain: Int,
        _ client: ClientStanding, _ index: IndexSnapshot?, _ now: Int64
    ) -> Verdict {
        if address.withLocalPart({ always.contains($0) }) { return .accept(6, .always, domain) }
        let traits = tables[domain]
        if isBlocked(address, domain) { return .reject(7, .blocked, .blocked, domain) }
        if let bare, isBlocked(bare.pointee, domain) { return .reject(7, .blocked, .blocked, domain) }
        let match = patterns.isEmpty ? nil : address.withKey { patterns.firstMatch($0) }
        if let match, match.action == .block {
            return .reject(7, .pattern, .blocked, domain, pattern: match.position)
        }
        if client.isOverHarvestLimit && !client.isTrusted { return .tempfail(8, .harvest, .harvest, domain) }
        if let match { return .accept(17, .pattern, domain, pattern: match.position) }
        if client.isBounce, traits.srs, address.isForwardersOwn { return .accept(18, .srs, domain) }
        if index == nil && indexExpected { return withoutIndex(domain) }
        if let flags = index?.flags(of: address) {
            let verdict = listed(flags, client, domain, withoutDetail: false)
            guard verdict.reason == .leaving, let rest = bare.flatMap({ index?.flags(of: $0.pointee) }) else {
                return verdict
            }
            let other = listed(rest, client, domain, withoutDetail: true)
            return other.action == .accept ? other : verdict
        }
        if let flags = bare.flatMap({ index?.flags(of: $0.pointee) }) {
            return listed(flags, client, domain, withoutDetail: true)
        }
        if let alias = traits.alias, let moved = alias.moving(address, from: traits.name) {
            return verdict(forAlias: moved, at: alias.position, of: domain, client, index, now)
        }
        if traits.catchAll { return .accept(14, .catchAll, domain) }
        if let flags = index?.domainFlags(of: address) {
            return flags.contains(.leaving)
                ? .tempfail(19, .leaving, .leaving, domain) : .accept(14, .catchAll, domain)
        }
        if let index, let stale = traits.indexStale, isStale(index, now: now) {
            switch stale {
            case .accept: return .accept(15, .staleIndex, domain)
            case .tempfail: return .tempfail(15, .staleIndex, .staleIndex, domain)
            case .reject: break
            }
        }
        return refused(16, .unknown, .unknown, domain, withoutDetail: false)
    }

    /// The verdict on the recipient of an alias domain: that on the same local part of the domain which it is an alias of.
    @inline(never)
    private func verdict(
        forAlias address: RecipientAddress, at target: Int, of domain: Int, _ client: ClientStanding,
        _ index: IndexSnapshot?, _ now: Int64
    ) -> Verdict {
        var verdict =
            if tables[target].batv, let inner = address.withoutBounceTag {
                verdict(for: inner, target, client, index, now)
            } else {
                verdict(for: address, target, client, index, now)
            }
        verdict.alias = domain
        return verdict
    }

    /// The recipient that a recipient of an alias domain is judged as; nil where the domain is no alias.
    public func aliased(_ address: RecipientAddress) -> RecipientAddress? {
        guard let domain = address.withDomain({ relayDomain($0) }), let alias = tables[domain].alias else { return nil }
        return alias.moving(address, from: tables[domain].name)
    }

    /// Row 9.
    private func withoutIndex(_ domain: Int) -> Verdict {
        tables[domain].acceptsWithoutIndex
            ? .accept(9, .noIndex, domain) : .tempfail(9, .noIndex, .noIndex, domain)
    }

    /// Whether the configuration blocks the recipient, for all domains or for its own.
    private func isBlocked(_ address: RecipientAddress, _ domain: Int) -> Bool {
        if !blocked.isEmpty, blocked.contains(address) { return true }
        guard tables[domain].hasOwnBlocked, let own = ownBlocked[domain] else { return false }
        return address.withLocalPart { own.contains($0) }
    }

    /// Rows 10 to 12 and 19; row 13 is row 10 without the detail.
    private func listed(
        _ flags: RecipientFlags, _ client: ClientStanding, _ domain: Int, withoutDetail: Bool
    ) -> Verdict {
        if flags.contains(.internalOnly) && !client.isTrusted {
            return refused(
                11, .internalOnly, tables[domain].hidesInternalOnly ? .unknown : .internalOnly, domain,
                withoutDetail: withoutDetail)
        }
        if flags.contains(.disabled) {
            return refused(
                12, .disabled, tables[domain].hidesDisabled ? .unknown : .disabled, domain,
                withoutDetail: withoutDetail)
        }
        if flags.contains(.leaving) { return .tempfail(19, .leaving, .leaving, domain, withoutDetail: withoutDetail) }
        return .accept(withoutDetail ? 13 : 10, .listed, domain, withoutDetail: withoutDetail)
    }

    /// A refusal that may be worded as that of an unknown recipient, and is then deferred where those are.
    private func refused(
        _ rule: Int, _ reason: Reason, _ reply: ReplyKind, _ domain: Int, withoutDetail: Bool
    ) -> Verdict {
        reply == .unknown && tables[domain].defersUnknown
            ? .tempfail(rule, reason, reply, domain, withoutDetail: withoutDetail)
            : .reject(rule, reason, reply, domain, withoutDetail: withoutDetail)
    }

    /// Whether the index is older than `index.max_age`, or dated so far in the future that its age isn't known.
    public func isStale(_ index: IndexSnapshot, now: Int64) -> Bool {
        guard let maximumIndexAge else { return false }
        let age = now.subtractingReportingOverflow(index.createdSeconds)
        return age.overflow || age.partialValue > maximumIndexAge || age.partialValue < -Self.believableLead
    }

    /// How many seconds a snapshot may be ahead of this machine's clock before its date says nothing.
    private static let believableLead: Int64 = 3600
}

extension PolicyTables.Target {
    /// The address in this domain; nil if it is in a sub-domain of the alias, which is no alias itself.
    @inline(never)
    fileprivate func moving(_ address: RecipientAddress, from alias: UnsafeBufferPointer<UInt8>) -> RecipientAddress? {
        guard address.withDomain({ $0.elementsEqual(alias) }) else { return nil }
        return address.inDomain(name)
    }
}

extension IndexSnapshot {
    /// When the snapshot was made, in whole seconds since 1970.
    var createdSeconds: Int64 { Int64(clamping: Int(exactly: info.created.timeIntervalSince1970.rounded(.down)) ?? 0) }

    /// The flags of a listed recipient. An empty local part, `""@example.com`, has the key of the whole domain and is none.
    func flags(of address: RecipientAddress) -> RecipientFlags? {
        address.withKey { $0.first == UInt8(ascii: "@") ? nil : lookup($0) }
    }

    /// The flags of the recipient's domain (`@example.com`) where it is listed as one that takes all, or is an alias domain that is
    /// leaving; nil where it isn't.
    func domainFlags(of address: RecipientAddress) -> RecipientFlags? {
        // Few have any, and each unknown recipient would pay for the search.
        guard info.catchAllDomains > 0 || info.leaving > 0 else { return nil }
        return address.withKey { key in
            guard let at = key.lastIndex(of: UInt8(ascii: "@")),
                let flags = lookup(UnsafeBufferPointer(rebasing: key[at...])),
                flags.contains(.catchAll) || flags.contains([.aliasDomain, .leaving])
            else { return nil }
            return flags
        }
    }
}

extension Policy {
    /// The verdict as ``verdict(for:client:index:now:)`` has it, but for a recipient that would be rejected as unknown and has sent through
    /// this gateway lately: where the policy of its domain says so, it is deferred (row 20).
    public func verdict(
        for recipient: Result<RecipientAddress, AddressError>, client: ClientStanding, index: IndexSnapshot?,
        senders: UnlistedSenders, now: Int64
    ) -> Verdict {
        guard case .success(let address) = recipient else { return .invalidPath }
        return verdict(for: address, client: client, index: index, senders: senders, now: now)
    }

    /// The same for what is a path.
    public func verdict(
        for address: RecipientAddress, client: ClientStanding, index: IndexSnapshot?, senders: UnlistedSenders,
        now: Int64
    ) -> Verdict {
        let verdict = verdict(for: address, client: client, index: index, now: now)
        guard verdict.reason == .unknown, verdict.action == .reject, let domain = verdict.domain,
            tables[domain].defersUnlistedSenders, hasSent(address, domain, senders)
        else { return verdict }
        var deferred = Verdict.tempfail(20, .unlistedSender, .unlistedSender, domain)
        deferred.alias = verdict.alias
        return deferred
    }

    /// Whether any domain defers recipients that have sent through the gateway.
    public var defersUnlistedSenders: Bool { domains.contains { $0.rules.defersUnlistedSenders } }

    /// Whether the recipient has sent: as it stands, without a BATV tag, without its detail, in the domain that its own is an alias of.
    @inline(never)
    private func hasSent(_ address: RecipientAddress, _ domain: Int, _ senders: UnlistedSenders) -> Bool {
        func isKnown(_ address: RecipientAddress) -> Bool {
            senders.contains(address)
                || address.withoutDetail(delimiters: tables[domain].delimiters).map(senders.contains) == true
        }
        func isKnownHereOrThere(_ address: RecipientAddress) -> Bool {
            isKnown(address) || aliased(address).map(isKnown) == true
        }
        return isKnownHereOrThere(address) || address.withoutBounceTag.map(isKnownHereOrThere) == true
    }

    /// The mailbox of a sender that proves to exist, though the index doesn't list it; nil for every other sender.
    ///
    /// Its domain is a relay domain, and a stranger's mail to it would be rejected as unknown, whatever of it may be a tag: it isn't listed, no
    /// pattern and no catch-all takes it, nobody has blocked it.
    public func unlistedMailbox(of sender: RecipientAddress, index: IndexSnapshot, now: Int64) -> RecipientAddress? {
        func isUnknown(_ address: RecipientAddress) -> Bool {
            address.hasDomain
                && verdict(for: address, client: ClientStanding(), index: index, now: now).reason == .unknown
        }
        // Nearly all are listed.
        guard isUnknown(sender) else { return nil }
        let mailboxes = sender.senderMailboxes
        guard let mailbox = mailboxes.first, mailboxes.allSatisfy(isUnknown),
            let domain = mailbox.withDomain({ relayDomain($0) })
        else { return nil }
        let bare = mailbox.withoutDetail(delimiters: tables[domain].delimiters) ?? mailbox
        return aliased(bare) ?? bare
    }
}
