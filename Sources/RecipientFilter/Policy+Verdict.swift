import Foundation
public import MailAddress
public import RecipientIndex
import RejectionLog
import System

// The functions below apply the rules in the order of ``VerdictRule``. None allocates or waits.

extension Policy {
    /// The verdict on a recipient, by the first rule of ``VerdictRule`` whose condition holds.
    ///
    /// - Parameters:
    ///   - recipient: the path of RCPT TO as it was parsed, or why it isn't valid.
    ///   - client: the client's trust and harvest state.
    ///   - index: the snapshot in force; nil while there is none.
    ///   - senders: the unlisted senders for the rule `unlisted-sender`; nil to skip that rule.
    ///   - now: seconds since 1970.
    public func verdict(
        for recipient: Result<RecipientAddress, AddressError>, client: ClientTrust, index: IndexSnapshot?,
        senders: UnlistedSenders? = nil, now: Int64
    ) -> Verdict {
        guard case .success(let address) = recipient else { return .invalidPath }
        return verdict(for: address, client: client, index: index, senders: senders, now: now)
    }

    /// The verdict on a recipient whose path is valid.
    public func verdict(
        for address: RecipientAddress, client: ClientTrust, index: IndexSnapshot?, senders: UnlistedSenders? = nil,
        now: Int64
    ) -> Verdict {
        let verdict = verdictOfRules(for: address, client: client, index: index, now: now)
        guard let senders, verdict.rule == .unknown, verdict.outcome == .rejected, let domain = verdict.domain,
            tables[domain].defersUnlistedSenders, hasSent(address, in: domain, senders)
        else { return verdict }
        var deferred = Verdict.deferred(.unlistedSender, in: domain)
        deferred.alias = verdict.alias
        return deferred
    }

    /// All rules but unlisted-sender: first syntax to foreign, then those for a recipient in a relay domain.
    private func verdictOfRules(
        for address: RecipientAddress, client: ClientTrust, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        guard address.hasDomain else {
            let isPostmaster = address.withLocalPart { $0.elementsEqual("postmaster".utf8) }
            return isPostmaster ? .accept(.postmaster) : .invalidPath
        }
        let domain = address.withDomain { relayDomain($0) }
        if address.isRouted && !client.isTrusted { return .reject(.routed, in: domain) }
        guard let domain else {
            if client.isTrusted { return .accept(.trustedRelay) }
            // The missing index may name the domain.
            return index == nil && domainsFromIndex ? .deferred(.noIndex, in: nil) : .reject(.foreign)
        }
        return verdictInRelayDomain(for: address, in: domain, client: client, index: index, now: now)
    }

    /// The rules from always on. A recipient with a BATV tag is judged as the address in it.
    private func verdictInRelayDomain(
        for address: RecipientAddress, in domain: Int, client: ClientTrust, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        if tables[domain].batv, let inner = address.withoutBounceTag {
            return verdictWithoutTag(for: inner, in: domain, client: client, index: index, now: now)
        }
        return verdictWithoutTag(for: address, in: domain, client: client, index: index, now: now)
    }

    private func verdictWithoutTag(
        for address: RecipientAddress, in domain: Int, client: ClientTrust, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        // An address is large to pass on. Most have no detail.
        guard address.mayHaveDetail(delimiters: tables[domain].delimiters),
            let bare = address.withoutDetail(delimiters: tables[domain].delimiters)
        else { return verdict(for: address, bare: nil, in: domain, client: client, index: index, now: now) }
        return withUnsafePointer(to: bare) {
            verdict(for: address, bare: $0, in: domain, client: client, index: index, now: now)
        }
    }

    /// - Parameter bare: the address without its detail; nil if it has none.
    private func verdict(
        for address: RecipientAddress, bare: UnsafePointer<RecipientAddress>?, in domain: Int,
        client: ClientTrust, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        if let verdict = verdictBeforeIndex(for: address, bare: bare, in: domain, client: client) { return verdict }
        if index == nil && indexExpected { return verdictWithoutIndex(in: domain) }
        if let verdict = verdictOfIndex(for: address, bare: bare, in: domain, client: client, index: index) {
            return verdict
        }
        let traits = tables[domain]
        if let alias = traits.alias, let moved = alias.moving(address, from: traits.name) {
            return verdictInAliasedDomain(
                for: moved, at: alias.position, alias: domain, client: client, index: index, now: now)
        }
        if let verdict = verdictOfCatchAll(for: address, in: domain, index: index) { return verdict }
        return verdictOnUnlisted(in: domain, index: index, now: now)
    }

    /// The rules always, blocked, harvest, pattern and srs.
    @inline(__always)
    private func verdictBeforeIndex(
        for address: RecipientAddress, bare: UnsafePointer<RecipientAddress>?, in domain: Int, client: ClientTrust
    ) -> Verdict? {
        if address.withLocalPart({ always.contains($0) }) { return .accept(.always, in: domain) }
        if isBlocked(address, domain) { return .reject(.blocked, in: domain) }
        if let bare, isBlocked(bare.pointee, domain) { return .reject(.blocked, in: domain) }
        let match = patterns.isEmpty ? nil : address.withKey { patterns.firstMatch($0) }
        if let match, match.action == .block {
            return .reject(.blocked, reason: .pattern, in: domain, pattern: match.position)
        }
        if client.isOverHarvestLimit && !client.isTrusted { return .deferred(.harvest, in: domain) }
        if let match { return .accept(.pattern, in: domain, pattern: match.position) }
        if client.isBounce, tables[domain].srs, address.isForwardersOwn { return .accept(.srs, in: domain) }
        return nil
    }

    /// The rule no-index.
    private func verdictWithoutIndex(in domain: Int) -> Verdict {
        tables[domain].acceptsWithoutIndex ? .accept(.noIndex, in: domain) : .deferred(.noIndex, in: domain)
    }

    /// The rules listed, internal, disabled and leaving: as the index lists the address, else as it lists the address without its detail.
    @inline(__always)
    private func verdictOfIndex(
        for address: RecipientAddress, bare: UnsafePointer<RecipientAddress>?, in domain: Int, client: ClientTrust,
        index: IndexSnapshot?
    ) -> Verdict? {
        guard let flags = index?.flags(of: address) else {
            return bare.flatMap { index?.flags(of: $0.pointee) }.map {
                verdictOnListed($0, in: domain, client: client, withoutDetail: true)
            }
        }
        let verdict = verdictOnListed(flags, in: domain, client: client, withoutDetail: false)
        // A recipient that is leaving is deferred, unless the address without the detail is still accepted.
        guard verdict.rule == .leaving, let rest = bare.flatMap({ index?.flags(of: $0.pointee) }) else {
            return verdict
        }
        let other = verdictOnListed(rest, in: domain, client: client, withoutDetail: true)
        return other.outcome == .accepted ? other : verdict
    }

    /// The verdict on a recipient with these flags in the index.
    private func verdictOnListed(
        _ flags: RecipientFlags, in domain: Int, client: ClientTrust, withoutDetail: Bool
    ) -> Verdict {
        if flags.contains(.internalOnly) && !client.isTrusted {
            return refused(
                .internalOnly, asUnknown: tables[domain].hidesInternalOnly, in: domain, withoutDetail: withoutDetail)
        }
        if flags.contains(.disabled) {
            return refused(
                .disabled, asUnknown: tables[domain].hidesDisabled, in: domain, withoutDetail: withoutDetail)
        }
        return flags.contains(.leaving)
            ? .deferred(.leaving, in: domain, withoutDetail: withoutDetail)
            : .accept(.listed, in: domain, withoutDetail: withoutDetail)
    }

    /// The rule alias-domain: the verdict on the same local part in the domain that the recipient's domain is an alias of.
    @inline(never)
    private func verdictInAliasedDomain(
        for address: RecipientAddress, at target: Int, alias domain: Int, client: ClientTrust,
        index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        var verdict = verdictInRelayDomain(for: address, in: target, client: client, index: index, now: now)
        verdict.alias = domain
        return verdict
    }

    /// The rule catch-all; and leaving, for a domain whose entry in the index is leaving: its unlisted recipients are deferred.
    @inline(__always)
    private func verdictOfCatchAll(
        for address: RecipientAddress, in domain: Int, index: IndexSnapshot?
    ) -> Verdict? {
        if tables[domain].catchAll { return .accept(.catchAll, in: domain) }
        guard let flags = index?.domainFlags(of: address) else { return nil }
        return flags.contains(.leaving) ? .deferred(.leaving, in: domain) : .accept(.catchAll, in: domain)
    }

    /// The rules stale-index and unknown.
    @inline(__always)
    private func verdictOnUnlisted(in domain: Int, index: IndexSnapshot?, now: Int64) -> Verdict {
        if let index, let outcome = tables[domain].indexStale, isStale(index, now: now) {
            switch outcome {
            case .accepted: return .accept(.staleIndex, in: domain)
            case .deferred: return .deferred(.staleIndex, in: domain)
            case .rejected: break
            }
        }
        return refused(.unknown, asUnknown: true, in: domain, withoutDetail: false)
    }

    /// A rejection, or a deferral if the reply is that to unknown recipients and that reply is temporary (4xx).
    private func refused(
        _ rule: VerdictRule, asUnknown: Bool, in domain: Int, withoutDetail: Bool
    ) -> Verdict {
        let reply = asUnknown ? ReplyKind.unknown : rule.reply
        return asUnknown && tables[domain].defersUnknown
            ? .deferred(rule, reply: reply, in: domain, withoutDetail: withoutDetail)
            : .reject(rule, reply: reply, in: domain, withoutDetail: withoutDetail)
    }

    // MARK: Conditions

    /// Whether the configuration blocks the recipient, in all domains or in its own.
    private func isBlocked(_ address: RecipientAddress, _ domain: Int) -> Bool {
        if !blocked.isEmpty, blocked.contains(address) { return true }
        guard tables[domain].hasOwnBlocked, let own = ownBlocked[domain] else { return false }
        return address.withLocalPart { own.contains($0) }
    }

    /// The recipient that a recipient of an alias domain is judged as; nil if the domain isn't an alias.
    public func aliased(_ address: RecipientAddress) -> RecipientAddress? {
        guard let domain = address.withDomain({ relayDomain($0) }), let alias = tables[domain].alias else { return nil }
        return alias.moving(address, from: tables[domain].name)
    }

    /// Whether the index is older than `index.max_age`, or dated so far in the future that its age isn't known.
    public func isStale(_ index: IndexSnapshot, now: Int64) -> Bool {
        guard let maximumIndexAge else { return false }
        let age = now.subtractingReportingOverflow(index.createdSeconds)
        return age.overflow || age.partialValue > maximumIndexAge || age.partialValue < -Self.clockTolerance
    }

    /// How many seconds a snapshot's date may be in the future and still be believed.
    private static let clockTolerance: Int64 = 3600

    // MARK: Unlisted senders

    /// Whether any domain defers unlisted recipients that have sent through the gateway.
    public var defersUnlistedSenders: Bool { domains.contains { $0.settings.defersUnlistedSenders } }

    /// Whether the recipient has sent lately: the address itself, the address in its BATV tag, without its detail, or in the domain that
    /// its own is an alias of.
    @inline(never)
    private func hasSent(_ address: RecipientAddress, in domain: Int, _ senders: UnlistedSenders) -> Bool {
        func isSender(_ address: RecipientAddress) -> Bool {
            senders.contains(address)
                || address.withoutDetail(delimiters: tables[domain].delimiters).map(senders.contains) == true
        }
        func isSenderOrAliased(_ address: RecipientAddress) -> Bool {
            isSender(address) || aliased(address).map(isSender) == true
        }
        return isSenderOrAliased(address) || address.withoutBounceTag.map(isSenderOrAliased) == true
    }

    /// The mailbox of a trusted client's sender that must exist, though the index doesn't list it; nil for any other sender.
    ///
    /// The mailbox is in a relay domain, and a recipient of its name would be rejected as unknown, with and without what may be a tag.
    public func unlistedMailbox(of sender: RecipientAddress, index: IndexSnapshot, now: Int64) -> RecipientAddress? {
        func isUnknown(_ address: RecipientAddress) -> Bool {
            address.hasDomain
                && verdictOfRules(for: address, client: ClientTrust(), index: index, now: now).reason == .unknown
        }
        // Most senders are listed.
        guard isUnknown(sender) else { return nil }
        let mailboxes = sender.senderMailboxes
        guard let mailbox = mailboxes.first, mailboxes.allSatisfy(isUnknown),
            let domain = mailbox.withDomain({ relayDomain($0) })
        else { return nil }
        let bare = mailbox.withoutDetail(delimiters: tables[domain].delimiters) ?? mailbox
        return aliased(bare) ?? bare
    }
}

extension PolicyTables.Target {
    /// The address in this domain; nil if it is in a sub-domain of the alias domain, which isn't an alias itself.
    @inline(never)
    fileprivate func moving(_ address: RecipientAddress, from alias: UnsafeBufferPointer<UInt8>) -> RecipientAddress? {
        guard address.withDomain({ $0.elementsEqual(alias) }) else { return nil }
        return address.inDomain(name)
    }
}

extension IndexSnapshot {
    /// When the snapshot was made, in whole seconds since 1970.
    var createdSeconds: Int64 { Int64(clamping: Int(exactly: info.created.timeIntervalSince1970.rounded(.down)) ?? 0) }

    /// The flags of a listed recipient; nil if it isn't listed. The key of `""@example.com`, which has an empty local part, is that of the
    /// whole domain: it isn't looked up.
    func flags(of address: RecipientAddress) -> RecipientFlags? {
        address.withKey { $0.first == UInt8(ascii: "@") ? nil : lookup($0) }
    }

    /// The flags of the entry `@example.com` for the recipient's domain, if it is a catch-all domain or an alias domain that is leaving.
    func domainFlags(of address: RecipientAddress) -> RecipientFlags? {
        // Few snapshots have such entries; the others save each unknown recipient the search.
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
