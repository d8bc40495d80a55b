import Foundation
public import MailAddress
public import RecipientIndex

/// What is known of the client when a recipient is judged.
public struct ClientStanding: Sendable, Equatable {
    /// Whether it is in a trusted network or has authenticated.
    public var isTrusted: Bool
    /// Whether its network has asked for too many unknown recipients.
    public var isOverHarvestLimit: Bool

    /// A client's standing.
    public init(isTrusted: Bool = false, isOverHarvestLimit: Bool = false) {
        self.isTrusted = isTrusted
        self.isOverHarvestLimit = isOverHarvestLimit
    }
}

extension Policy {
    /// The verdict on one recipient: the table of sixteen rows, from the first down, the first row that holds.
    ///
    /// - Parameters:
    ///   - recipient: the path of RCPT TO as it was parsed, or why it is none.
    ///   - client: what is known of the client.
    ///   - index: the snapshot in force; nil while there is none.
    ///   - now: seconds since 1970.
    public func verdict(
        for recipient: Result<RecipientAddress, AddressError>, client: ClientStanding, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        guard case .success(let address) = recipient else { return .reject(1, .syntax, .syntax) }
        guard address.hasDomain else {
            let isPostmaster = address.withLocalPart { $0.elementsEqual("postmaster".utf8) }
            return isPostmaster ? .accept(2, .postmaster) : .reject(1, .syntax, .syntax)
        }
        let domain = address.withDomain { relayDomain($0) }
        if address.isRouted && !client.isTrusted { return .reject(3, .relay, .relay, domain) }
        guard let domain else {
            return client.isTrusted ? .accept(4, .trusted) : .reject(5, .relay, .relay)
        }
        if address.withLocalPart({ always.contains($0) }) { return .accept(6, .always, domain) }
        let bare = address.withoutDetail(delimiters: delimiters[domain])
        if blocked.contains(address) || bare.map(blocked.contains) == true {
            return .reject(7, .blocked, .blocked, domain)
        }
        if client.isOverHarvestLimit && !client.isTrusted { return .tempfail(8, .harvest, .harvest, domain) }
        let rules = domains[domain].rules
        if index == nil && indexExpected {
            return rules.indexMissing == .accept
                ? .accept(9, .noIndex, domain) : .tempfail(9, .noIndex, .noIndex, domain)
        }
        if let flags = index?.flags(of: address) { return listed(flags, rules, client, domain, withoutDetail: false) }
        if let bare, let flags = index?.flags(of: bare) {
            return listed(flags, rules, client, domain, withoutDetail: true)
        }
        if rules.catchAll || index?.takesAll(address) == true { return .accept(14, .catchAll, domain) }
        if let index, let stale = rules.indexStale, isStale(index, now: now) {
            switch stale {
            case .accept: return .accept(15, .staleIndex, domain)
            case .tempfail: return .tempfail(15, .staleIndex, .staleIndex, domain)
            case .reject: break
            }
        }
        return .reject(16, .unknown, .unknown, domain)
    }

    /// Rows 10 to 12; row 13 is the same without the detail.
    private func listed(
        _ flags: RecipientFlags, _ rules: Rules, _ client: ClientStanding, _ domain: Int, withoutDetail: Bool
    ) -> Verdict {
        if flags.contains(.internalOnly) && !client.isTrusted {
            return .reject(
                11, .internalOnly, rules.hideInternalOnly ? .unknown : .internalOnly, domain,
                withoutDetail: withoutDetail)
        }
        if flags.contains(.disabled) {
            return .reject(
                12, .disabled, rules.hideDisabled ? .unknown : .disabled, domain, withoutDetail: withoutDetail)
        }
        return .accept(withoutDetail ? 13 : 10, .listed, domain, withoutDetail: withoutDetail)
    }

    /// Whether the index is older than `index.max_age`.
    public func isStale(_ index: IndexSnapshot, now: Int64) -> Bool {
        guard let maximumIndexAge else { return false }
        return now - index.createdSeconds > maximumIndexAge
    }
}

extension IndexSnapshot {
    /// When the snapshot was made, in whole seconds since 1970.
    var createdSeconds: Int64 { Int64(clamping: Int(exactly: info.created.timeIntervalSince1970.rounded(.down)) ?? 0) }

    /// The flags of a listed recipient. An empty local part, `""@example.com`, has the key of the whole domain and is none.
    func flags(of address: RecipientAddress) -> RecipientFlags? {
        address.withKey { $0.first == UInt8(ascii: "@") ? nil : lookup($0) }
    }

    /// Whether the recipient's domain is listed as one that takes all (`@example.com`).
    func takesAll(_ address: RecipientAddress) -> Bool {
        address.withKey { key in
            guard let at = key.lastIndex(of: UInt8(ascii: "@")) else { return false }
            return lookup(UnsafeBufferPointer(rebasing: key[at...]))?.contains(.catchAll) == true
        }
    }
}
