extension Verdict {
    /// The reason in a sentence, for a person who wants to know why.
    public var explanation: String {
        switch rule {
        case 1: "not a valid recipient path (RFC 5321 section 4.1.2)"
        case 2: "<postmaster> without a domain is accepted always (RFC 5321 section 4.5.1)"
        case 3: "the local part asks for routing to another host, and the client is not trusted"
        case 4: "a foreign domain, and the client is trusted to relay"
        case 5: "the domain is not a relay domain, and the client is not trusted"
        case 6: "the local part is accepted in every relay domain"
        case 7: reason == .pattern ? "a pattern blocks this recipient" : "the configuration blocks this recipient"
        case 8: "the client's network has asked for too many unknown recipients"
        case 9: "there is no index to look in"
        case 10: "the recipient is listed"
        case 11: "the recipient is listed for trusted clients only, and this client is not trusted"
        case 12: "the recipient is listed as a disabled mailbox"
        case 13: "the recipient is listed without its detail"
        case 14: "the recipient is not listed, but its domain takes all"
        case 15: "the recipient is not listed, and the index is too old to be relied on"
        case 16: "the recipient is not listed"
        case 17: "a pattern accepts this recipient"
        case 18: "a bounce to an address that a forwarder has rewritten (SRS)"
        case 19: "the recipient has left the list, and is rejected only after a time of grace (sync.grace)"
        case 20: "the recipient is not listed, but has sent through this gateway within \(UnlistedSenders.days) days"
        default: "row \(rule) of the verdict table"
        }
    }

    /// The configuration keys that had a part in the decision, most telling first; `source` stands for the sources.
    public var decidingKeys: [String] {
        switch rule {
        case 3, 4: ["relay.trusted_networks", "relay.trust_authenticated"]
        case 5: ["relay.domains", "relay.domains_from", "relay.subdomains"]
        case 6: ["recipients.always"]
        case 7 where reason == .pattern: []
        case 7: ["recipients.blocked"]
        case 8: ["harvest.limit", "harvest.window"]
        case 9: ["policy.index_missing", "index.path"]
        case 11: ["policy.internal_only"]
        case 12: ["policy.disabled"]
        case 13: ["recipients.delimiter"]
        case 14: ["domain.catch_all"]
        case 15: ["policy.index_stale", "index.max_age"]
        case 18: ["recipients.srs"]
        case 19: ["sync.grace"]
        case 20: ["policy.unlisted_sender"]
        default: []
        }
    }
}
