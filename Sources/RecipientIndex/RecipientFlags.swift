/// The flags of a key in the recipient index, one byte; without any flag, every client may send to the recipient.
///
/// Bits that this version doesn't define are kept.
public struct RecipientFlags: OptionSet, Sendable, Hashable {
    /// The byte in the snapshot file.
    public let rawValue: UInt8

    /// The flags in a byte of the snapshot file; every value is allowed.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Only trusted clients may send to the recipient.
    public static let internalOnly = RecipientFlags(rawValue: 1)
    /// No client may send to the recipient.
    public static let disabled = RecipientFlags(rawValue: 2)
    /// The key is a domain, `@example.com`, of which every recipient is accepted.
    public static let catchAll = RecipientFlags(rawValue: 4)
    /// The key is a relay domain, `@example.com`.
    public static let relayDomain = RecipientFlags(rawValue: 8)
    /// The recipient left the list less than `sync.grace` ago: it is deferred, not yet rejected.
    public static let leaving = RecipientFlags(rawValue: 16)
    /// The key is an alias domain, `@alias.example`; see ``IndexSource/aliasDomains``.
    public static let aliasDomain = RecipientFlags(rawValue: 32)

    /// Whether the key is a domain rather than a recipient.
    var isOfDomain: Bool { !isDisjoint(with: [.catchAll, .relayDomain, .aliasDomain]) }

    /// The flags of a key that two sources list with different flags.
    ///
    /// A client may send to the recipient if either source allows it: a restriction holds only if both have one. A
    /// recipient that is internal-only in one source and disabled in the other is internal-only. It is leaving only if
    /// both say so. All other flags hold if either source has them.
    public func merged(with other: RecipientFlags) -> RecipientFlags {
        let restrictions: RecipientFlags = [.internalOnly, .disabled]
        let isLeaving = contains(.leaving) && other.contains(.leaving)
        let rest = union(other).subtracting(isLeaving ? restrictions : restrictions.union(.leaving))
        if isDisjoint(with: restrictions) || other.isDisjoint(with: restrictions) { return rest }
        if !contains(.disabled) || !other.contains(.disabled) { return rest.union(.internalOnly) }
        return rest.union(intersection(other).intersection(restrictions))
    }
}
