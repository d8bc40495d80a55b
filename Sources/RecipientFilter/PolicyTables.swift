import MailAddress
import Milter

/// What the judgement of a recipient reads of a policy: plain values in memory of their own, so that no reference is counted on the
/// way, which would have all threads write to one cache line.
struct PolicyTables: ~Copyable {
    /// What a domain decides; the rules say what each means.
    struct Traits {
        let observe, catchAll, batv, srs, acceptsWithoutIndex, hidesInternalOnly, hidesDisabled, hasOwnBlocked: Bool
        /// Whether the reply to an unknown recipient is a temporary one.
        let defersUnknown: Bool
        let defersUnlistedSenders: Bool
        let indexStale: Verdict.Action?
        let delimiters: DelimiterSet
        let tag: UInt32
        /// Where its replies begin.
        let replies: Int
        /// Where the domain is an alias: the domain whose recipients it has, its name in memory of the table.
        let alias: Target?
        /// Its own name.
        let name: UnsafeBufferPointer<UInt8>
    }

    /// The domain that an alias is judged as.
    struct Target {
        let name: UnsafeBufferPointer<UInt8>
        /// Of the domain whose rules hold for it.
        let position: Int
    }

    /// The same as it is handed over.
    struct Alias {
        let name: String
        let position: Int
    }

    /// By the position in ``Policy/domains``.
    private let traits: UnsafeMutableBufferPointer<Traits>
    /// In the order of ``ReplyKind``: first those of no domain, then those of each domain that has some of its own.
    private let replies: UnsafeMutableBufferPointer<PreparedReply>

    /// - Parameters:
    ///   - replies: by kind, where a domain has none of its own.
    ///   - ownReplies: by domain; all kinds where it has some of its own.
    ///   - aliases: by domain; nil for one that is no alias.
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
                    acceptsWithoutIndex: rules.indexMissing == .accept, hidesInternalOnly: rules.hideInternalOnly,
                    hidesDisabled: rules.hideDisabled, hasOwnBlocked: !rules.blocked.isEmpty,
                    defersUnknown: (ownReplies[place] ?? replies)[ReplyKind.unknown.rawValue].isTemporary,
                    defersUnlistedSenders: rules.defersUnlistedSenders,
                    indexStale: rules.indexStale, delimiters: DelimiterSet(rules.delimiter), tag: domain.tag,
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

    /// Of a position in ``Policy/domains``.
    @inline(__always)
    subscript(domain: Int) -> Traits { traits[domain] }

    @inline(__always)
    func reply(_ kind: ReplyKind, domain: Int?) -> UnsafePointer<PreparedReply> {
        let start = domain.map { traits[$0].replies } ?? 0
        // The table has the replies of no domain at least.
        return UnsafePointer(replies.baseAddress.unsafelyUnwrapped + start + kind.rawValue)
    }
}

// Nothing in it changes between init and deinit.
extension PolicyTables: @unchecked Sendable {}

/// A ``ReplyTemplate`` as it is filled in: a handle, whose owner calls ``deallocate()``.
struct PreparedReply {
    private enum Piece {
        case text(UnsafeBufferPointer<UInt8>)
        case recipient, domain, client
    }

    let codes: ReplyCodes
    /// The codes with a blank after each: how the reply begins in the log.
    let prefix: UnsafeBufferPointer<UInt8>
    private let pieces: UnsafeBufferPointer<Piece>

    init(_ template: ReplyTemplate) {
        codes = ReplyCodes(code: template.code, enhancedCode: template.enhancedCode)
        prefix = Self.copy(Array("\(template.code) \(template.enhancedCode) ".utf8))
        pieces = Self.copy(
            template.segments.map { segment in
                switch segment {
                case .text(let text): .text(Self.copy(text))
                case .recipient: .recipient
                case .domain: .domain
                case .client: .client
                }
            })
    }

    func deallocate() {
        for case .text(let text) in pieces { text.deallocate() }
        pieces.deallocate()
        prefix.deallocate()
    }

    private static func copy<Element>(_ elements: [Element]) -> UnsafeBufferPointer<Element> {
        let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: elements.count)
        _ = copy.initialize(fromContentsOf: elements)
        return UnsafeBufferPointer(copy)
    }

    /// Writes the reply's text, without the codes, into a buffer.
    ///
    /// Octets outside printable ASCII become `?`: a recipient is hostile input, and only a client that asked for SMTPUTF8 may
    /// be sent UTF-8 (RFC 6531 section 3.7.4.1). What doesn't fit is cut off.
    ///
    /// - Parameter utf8: whether the client may, and the recipient is well-formed UTF-8.
    /// - Returns: the number of octets written.
    func render(
        into buffer: UnsafeMutableBufferPointer<UInt8>, recipient: UnsafeBufferPointer<UInt8>,
        domain: UnsafeBufferPointer<UInt8>, client: UnsafeBufferPointer<UInt8>,
        utf8: Bool = false
    ) -> Int {
        var count = 0
        for piece in pieces {
            let bytes =
                switch piece {
                case .text(let text): text
                case .recipient: recipient
                case .domain: domain
                case .client: client
                }
            let taken = min(bytes.count, buffer.count &- count)
            for place in 0..<taken {
                let byte = bytes[place]
                let isFit = byte >= 0x20 && byte < 0x7f || byte > 0x7f && utf8
                buffer[count &+ place] = isFit ? byte : UInt8(ascii: "?")
            }
            count &+= taken
        }
        return count
    }
}
