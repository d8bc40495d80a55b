import MailAddress
public import RejectionLog

/// The settings that a `[[domain]]` may override.
public struct DomainSettings: Sendable, Equatable {
    /// Observe mode: whether the filter only logs verdicts and lets the MTA continue.
    public var observe = false
    /// Whether every recipient of the domain is accepted.
    public var catchAll = false
    /// The characters that begin a detail, such as `+`; empty for none.
    public var delimiter = "+"
    /// Whether the sub-domains are relay domains with the same settings; nil: as ``Policy/Settings/subdomains``.
    public var subdomains: Bool?
    /// Whether `prvs=TAG=user` is judged as `user` (BATV).
    public var batv = false
    /// Whether bounces to addresses that a forwarder has rewritten (SRS) are accepted.
    public var srs = false
    /// The local parts, in canonical form, that are rejected in this domain, also if they are listed.
    public var blocked: [String] = []
    /// The domain's own replies, which take the place of those in ``Policy/Settings/replies``.
    public var replies: [ReplyKind: ReplyTemplate] = [:]
    /// The domain that this one is an alias of, as an A-label; nil if it isn't an alias. An alias is ignored unless both are relay
    /// domains, and if its chain of aliases leads back to this domain.
    public var aliasOf: String?
    /// Whether an alias domain has a mode of its own; if not, it has the mode of the domain that it is an alias of.
    public var hasOwnMode = false
    /// The outcome for recipients while there is no index: deferred or accepted.
    public var indexMissing = Outcome.deferred
    /// The outcome for unlisted recipients while the index is too old, deferred or accepted; nil: rejected, as with a new index.
    public var indexStale: Outcome?
    /// Whether an internal-only recipient gets the reply of an unknown recipient, which hides that it exists.
    public var hideInternalOnly = false
    /// Whether a disabled mailbox gets the reply of an unknown recipient, which hides that it exists.
    public var hideDisabled = true
    /// Whether an unlisted recipient that has sent through the gateway lately is deferred instead of rejected.
    public var defersUnlistedSenders = false

    /// The defaults of the configuration file.
    public init() {}
}

/// The settings of the relay domains and their replies in the form that judging reads: plain values in memory of their own. Reading
/// counts no references, which would have all threads write to one cache line.
struct PolicyTables: ~Copyable {
    /// A relay domain's settings; ``DomainSettings`` describes them.
    struct Traits {
        let observe, catchAll, batv, srs, acceptsWithoutIndex, hidesInternalOnly, hidesDisabled, hasOwnBlocked: Bool
        /// Whether the reply to unknown recipients is a temporary one (4xx).
        let defersUnknown: Bool
        let defersUnlistedSenders: Bool
        let indexStale: Outcome?
        let delimiters: DelimiterSet
        let slot: DomainSlot
        /// The position of the domain's first reply.
        let replies: Int
        /// The domain that this one is an alias of; nil if it isn't an alias.
        let alias: Target?
        /// The domain's name, in memory of the table.
        let name: UnsafeBufferPointer<UInt8>
    }

    /// The domain that an alias domain is an alias of.
    struct Target {
        /// The name, in memory of the table.
        let name: UnsafeBufferPointer<UInt8>
        /// The position of the relay domain that the name belongs to.
        let position: Int
    }

    /// A ``Target`` before the table has copied its name.
    struct Alias {
        let name: String
        let position: Int
    }

    /// By the position in ``Policy/domains``.
    private let traits: UnsafeMutableBufferPointer<Traits>
    /// By ``ReplyKind/rawValue``: first the global replies, then those of each domain that has some of its own.
    private let replies: UnsafeMutableBufferPointer<PreparedReply>

    /// - Parameters:
    ///   - replies: the global replies by kind.
    ///   - ownReplies: for each domain, its replies by kind; nil for a domain without replies of its own.
    ///   - aliases: for each domain, the domain that it is an alias of; nil for a domain that isn't an alias.
    init(_ domains: [Policy.Domain], replies: [ReplyTemplate], ownReplies: [[ReplyTemplate]?], aliases: [Alias?]) {
        var templates = replies
        var starts: [Int] = []
        for own in ownReplies {
            starts.append(own == nil ? 0 : templates.count)
            templates += own ?? []
        }
        traits = .allocate(capacity: domains.count)
        for (place, domain) in domains.enumerated() {
            let settings = domain.settings
            traits.initializeElement(
                at: place,
                to: Traits(
                    observe: settings.observe, catchAll: settings.catchAll, batv: settings.batv,
                    srs: settings.srs,
                    acceptsWithoutIndex: settings.indexMissing == .accepted,
                    hidesInternalOnly: settings.hideInternalOnly,
                    hidesDisabled: settings.hideDisabled, hasOwnBlocked: !settings.blocked.isEmpty,
                    defersUnknown: (ownReplies[place] ?? replies)[ReplyKind.unknown.rawValue].isTemporary,
                    defersUnlistedSenders: settings.defersUnlistedSenders,
                    indexStale: settings.indexStale, delimiters: DelimiterSet(settings.delimiter), slot: domain.slot,
                    replies: starts[place],
                    alias: aliases[place].map { Target(name: Self.copy($0.name), position: $0.position) },
                    name: Self.copy(domain.name)))
        }
        self.replies = .allocate(capacity: templates.count)
        for (place, template) in templates.enumerated() {
            self.replies.initializeElement(at: place, to: PreparedReply(template))
        }
    }

    deinit {
        for reply in replies { reply.deallocate() }
        replies.deallocate()
        for domain in traits {
            domain.name.deallocate()
            domain.alias?.name.deallocate()
        }
        traits.deallocate()
    }

    private static func copy(_ text: String) -> UnsafeBufferPointer<UInt8> {
        let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
        _ = copy.initialize(fromContentsOf: text.utf8)
        return UnsafeBufferPointer(copy)
    }

    /// The settings of the domain at a position of ``Policy/domains``.
    @inline(__always)
    subscript(domain: Int) -> Traits { traits[domain] }

    /// The reply of a kind: the domain's own, if it has one.
    @inline(__always)
    func reply(_ kind: ReplyKind, domain: Int?) -> UnsafePointer<PreparedReply> {
        let start = domain.map { traits[$0].replies } ?? 0
        // The table always has the global replies.
        return UnsafePointer(replies.baseAddress.unsafelyUnwrapped + start + kind.rawValue)
    }
}

// Nothing changes between init and deinit.
extension PolicyTables: @unchecked Sendable {}
