import MailAddress
import RejectionLog

/// The settings of the relay domains and their replies in the form that judging reads: plain values in memory of their own. Reading
/// counts no references, which would have all threads write to one cache line.
struct PolicyTables: ~Copyable {
    /// A relay domain's settings; ``Policy/Rules`` describes them.
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
            let rules = domain.rules
            traits.initializeElement(
                at: place,
                to: Traits(
                    observe: rules.observe, catchAll: rules.catchAll, batv: rules.batv, srs: rules.srs,
                    acceptsWithoutIndex: rules.indexMissing == .accepted, hidesInternalOnly: rules.hideInternalOnly,
                    hidesDisabled: rules.hideDisabled, hasOwnBlocked: !rules.blocked.isEmpty,
                    defersUnknown: (ownReplies[place] ?? replies)[ReplyKind.unknown.rawValue].isTemporary,
                    defersUnlistedSenders: rules.defersUnlistedSenders,
                    indexStale: rules.indexStale, delimiters: DelimiterSet(rules.delimiter), slot: domain.slot,
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
