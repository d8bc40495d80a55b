public import MailAddress
public import RecipientIndex

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

    /// Whether the recipient has sent: as it stands, without a BATV tag, without its detail.
    @inline(never)
    private func hasSent(_ address: RecipientAddress, _ domain: Int, _ senders: UnlistedSenders) -> Bool {
        func isKnown(_ address: RecipientAddress) -> Bool {
            senders.contains(address)
                || address.withoutDetail(delimiters: tables[domain].delimiters).map(senders.contains) == true
        }
        return isKnown(address) || address.withoutBounceTag.map(isKnown) == true
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
        return mailbox.withoutDetail(delimiters: tables[domain].delimiters) ?? mailbox
    }
}
