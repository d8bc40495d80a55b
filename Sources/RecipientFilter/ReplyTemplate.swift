import Milter

/// The kinds of replies to recipients that aren't accepted: the keys of the configuration's `[replies]`.
public enum ReplyKind: Int, Sendable, CaseIterable {
    case syntax, relay, blocked, harvest, noIndex, internalOnly, disabled, staleIndex, unknown, leaving, unlistedSender

    /// The key in the configuration's `[replies]`.
    public var key: String {
        switch self {
        case .noIndex: "no_index"
        case .internalOnly: "internal"
        case .staleIndex: "stale_index"
        case .unlistedSender: "unlisted_sender"
        case .syntax, .relay, .blocked, .harvest, .disabled, .unknown, .leaving: "\(self)"
        }
    }

    /// Whether the configuration may give a temporary reply (4xx) in place of a permanent one (5xx).
    public var mayBeTemporary: Bool { self == .unknown }

    /// Whether the reply is a temporary one (4xx) by default.
    public var isTemporary: Bool {
        switch self {
        case .harvest, .noIndex, .staleIndex, .leaving, .unlistedSender: true
        case .syntax, .relay, .blocked, .internalOnly, .disabled, .unknown: false
        }
    }

    /// The default reply, in Postfix's words where Postfix has such a reply.
    public var defaultText: String {
        switch self {
        case .syntax: "553 5.1.3 <{recipient}>: Recipient address rejected: Bad recipient address syntax"
        case .relay: "554 5.7.1 <{recipient}>: Relay access denied"
        case .blocked, .unknown: "550 5.1.1 <{recipient}>: Recipient address rejected: User unknown"
        case .harvest: "421 4.7.0 Too many unknown recipients"
        case .noIndex, .staleIndex, .unlistedSender:
            "451 4.3.0 <{recipient}>: Recipient verification is unavailable"
        case .internalOnly: "550 5.7.1 <{recipient}>: Recipient address rejected: Authentication required"
        case .disabled: "550 5.2.1 <{recipient}>: Recipient address rejected: Mailbox disabled"
        case .leaving: "450 4.2.1 <{recipient}>: Recipient address rejected: Mailbox temporarily unavailable"
        }
    }

    var defaultTemplate: ReplyTemplate {
        do { return try ReplyTemplate(defaultText, for: self) } catch { preconditionFailure("\(self): \(error)") }
    }
}

/// The reason why a text isn't a valid reply.
public struct ReplyTemplateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The fault and the accepted values, as a clause that follows the text.
    public let description: String
}

/// A reply with placeholders for the recipient, its domain and the client's address. ``PreparedReply`` fills it in.
public struct ReplyTemplate: Sendable, Equatable {
    /// The most bytes of a template. A reply line may have 512 bytes with its CRLF (RFC 5321 section 4.5.3.1.5); the rest is for the
    /// values of the placeholders.
    public static let maximumLength = 400

    enum Segment: Sendable, Equatable {
        case text([UInt8])
        case recipient, domain, client
    }

    /// The reply code, such as `550`.
    public let code: String
    /// The enhanced status code (RFC 3463), such as `5.1.1`.
    public let enhancedCode: String
    let segments: [Segment]

    /// Whether the reply is a temporary one (4xx): the client tries again later.
    public var isTemporary: Bool { code.hasPrefix("4") }

    /// Reads a reply such as `550 5.1.1 <{recipient}>: User unknown`, and checks that its codes suit the kind.
    public init(_ template: String, for kind: ReplyKind) throws(ReplyTemplateError) {
        func fault(_ what: String) -> ReplyTemplateError { ReplyTemplateError(description: what) }
        let shape = "a reply code, an enhanced code and a text, such as \"\(kind.defaultText)\""
        guard template.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) else {
            throw fault(
                "contains a control character or a character outside ASCII; accepted: one line of printable ASCII")
        }
        guard template.utf8.count <= Self.maximumLength else {
            throw fault("is \(template.utf8.count) bytes long; accepted: at most \(Self.maximumLength)")
        }
        let parts = template.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[2].isEmpty else { throw fault("is not a reply; accepted: \(shape)") }
        let code = parts[0].utf8.map { $0 }
        let isTemporary = kind.isTemporary || kind.mayBeTemporary && code.first == UInt8(ascii: "4")
        let leading: UInt8 = isTemporary ? UInt8(ascii: "4") : UInt8(ascii: "5")
        guard code.count == 3, code.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
            throw fault("begins with \"\(parts[0])\"; accepted: \(shape)")
        }
        guard code[0] == leading else {
            throw fault(
                "has the code \(parts[0]), but this reply \(kind.isTemporary ? "defers (4xx)" : "rejects (5xx)"); "
                    + "accepted: a code that begins with \(kind.mayBeTemporary ? "5, or with 4 to defer" : kind.isTemporary ? "4" : "5")"
            )
        }
        // RFC 5321 section 3.8: at 421 the client closes the connection, and the message's other recipients are lost.
        guard parts[0] != "421" || kind.isTemporary else {
            throw fault("has the code 421, which ends the connection; accepted: 450 to defer one recipient")
        }
        let numbers = parts[1].split(separator: ".", omittingEmptySubsequences: false)
        guard numbers.count == 3, numbers.allSatisfy({ (1...3).contains($0.count) && $0.allSatisfy(\.isWholeNumber) })
        else {
            throw fault("has the enhanced code \"\(parts[1])\"; accepted: \(shape)")
        }
        guard numbers[0].utf8.elementsEqual([leading]) else {
            throw fault(
                "has the enhanced code \(parts[1]), which contradicts the code \(parts[0]); "
                    + "accepted: one that begins with \(isTemporary ? 4 : 5)")
        }
        self.code = String(parts[0])
        self.enhancedCode = String(parts[1])
        self.segments = try Self.segments(of: parts[2])
    }

    private static func segments(of text: Substring) throws(ReplyTemplateError) -> [Segment] {
        var segments: [Segment] = []
        var rest = text
        while let open = rest.firstIndex(of: "{") {
            guard let close = rest[open...].firstIndex(of: "}") else {
                throw ReplyTemplateError(description: "has a { without a }; accepted: {recipient}, {domain}, {client}")
            }
            if open > rest.startIndex { segments.append(.text(Array(rest[..<open].utf8))) }
            switch rest[rest.index(after: open)..<close] {
            case "recipient": segments.append(.recipient)
            case "domain": segments.append(.domain)
            case "client": segments.append(.client)
            case let other:
                throw ReplyTemplateError(
                    description: "has the placeholder {\(other)}; accepted: {recipient}, {domain}, {client}")
            }
            rest = rest[rest.index(after: close)...]
        }
        if !rest.isEmpty { segments.append(.text(Array(rest.utf8))) }
        return segments
    }
}

extension ReplyTemplate {
    /// The whole reply with its codes, as the client gets it; for `postern check`.
    public func text(recipient: String, domain: String, client: String) -> String {
        let reply = PreparedReply(self)
        defer { reply.deallocate() }
        var (recipient, domain, client) = (recipient, domain, client)
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: PreparedReply.maximumLength) { buffer in
            let length = recipient.withUTF8 { recipient in
                domain.withUTF8 { domain in
                    client.withUTF8 { client in
                        reply.render(into: buffer, recipient: recipient, domain: domain, client: client, utf8: true)
                    }
                }
            }
            return String(decoding: buffer[..<length], as: UTF8.self)
        }
    }
}

/// A ``ReplyTemplate`` in the form that is filled in for each recipient. A handle: the owner calls ``deallocate()``.
struct PreparedReply {
    private enum Piece {
        case text(UnsafeBufferPointer<UInt8>)
        case recipient, domain, client
    }

    /// The most bytes of a reply: the codes, and the longest text that libmilter sends.
    static let maximumLength = 16 + MilterContext.maximumReplyLength

    let codes: ReplyCodes
    /// The codes, each with a space after it.
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

    /// Writes the whole reply, codes and text, into a buffer; bytes that don't fit are left out.
    ///
    /// A byte outside printable ASCII becomes `?`: a recipient is hostile input, and only a client that said SMTPUTF8 may get UTF-8
    /// (RFC 6531 section 3.7.4.1).
    ///
    /// - Parameters:
    ///   - buffer: of ``maximumLength`` bytes.
    ///   - utf8: whether the client said SMTPUTF8, and the recipient is well-formed UTF-8.
    /// - Returns: the number of bytes written.
    func render(
        into buffer: UnsafeMutableBufferPointer<UInt8>, recipient: UnsafeBufferPointer<UInt8>,
        domain: UnsafeBufferPointer<UInt8>, client: UnsafeBufferPointer<UInt8>, utf8: Bool
    ) -> Int {
        _ = buffer.update(fromContentsOf: prefix)
        var count = prefix.count
        for piece in pieces {
            let bytes =
                switch piece {
                case .text(let text): text
                case .recipient: recipient
                case .domain: domain
                case .client: client
                }
            let room = min(bytes.count, buffer.count &- count)
            for place in 0..<room {
                let byte = bytes[place]
                let isAllowed = byte >= 0x20 && byte < 0x7f || byte > 0x7f && utf8
                buffer[count &+ place] = isAllowed ? byte : UInt8(ascii: "?")
            }
            count &+= room
        }
        return count
    }
}
