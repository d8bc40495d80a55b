/// What the index knows of a listed key, in one byte; none of them set means: usable by everyone.
///
/// Bits that this version doesn't name are kept as they are.
public struct RecipientFlags: OptionSet, Sendable, Hashable {
    /// The byte as it stands in the snapshot file.
    public let rawValue: UInt8

    /// The flags of a byte of the snapshot file; every value is allowed.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Only trusted clients may write to it.
    public static let internalOnly = RecipientFlags(rawValue: 1)
    /// Nobody may write to it.
    public static let disabled = RecipientFlags(rawValue: 2)
    /// The key is `@example.com`, and every recipient of that domain is known.
    public static let catchAll = RecipientFlags(rawValue: 4)
    /// The key is `@example.com`, a domain that is relayed for.
    public static let relayDomain = RecipientFlags(rawValue: 8)
    /// No source lists it any more, since less than the time of grace: it is deferred, not yet rejected.
    public static let leaving = RecipientFlags(rawValue: 16)
    /// The key is `@alias.example`, a domain whose recipients are those of another one (``IndexSource/aliasDomains``).
    public static let aliasDomain = RecipientFlags(rawValue: 32)

    /// Whether a key with these flags stands for a domain rather than for one recipient.
    var isOfDomain: Bool { !isDisjoint(with: [.catchAll, .relayDomain, .aliasDomain]) }

    /// The flags of a key that was added with these and with others.
    ///
    /// Whoever may write to it by either may write to it: a restriction holds only if both have one. Someone's
    /// internal-only recipient that is disabled elsewhere is internal-only. It is leaving only by both. All other flags hold if either
    /// has them.
    public func merged(with other: RecipientFlags) -> RecipientFlags {
        let restrictions: RecipientFlags = [.internalOnly, .disabled]
        let isLeaving = contains(.leaving) && other.contains(.leaving)
        let rest = union(other).subtracting(isLeaving ? restrictions : restrictions.union(.leaving))
        if isDisjoint(with: restrictions) || other.isDisjoint(with: restrictions) { return rest }
        if !contains(.disabled) || !other.contains(.disabled) { return rest.union(.internalOnly) }
        return rest.union(intersection(other).intersection(restrictions))
    }
}
