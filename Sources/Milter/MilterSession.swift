import CMilter
import Glibc
public import System

/// The filter's side of an SMTP connection: receives the events of its envelopes, and answers each RCPT.
///
/// The server creates a session when the client connects, and drops it after ``close()``. It calls the session on any
/// of its threads, one call at a time. The MTA waits for ``recipient(_:arguments:)`` only.
public protocol MilterSession: AnyObject {
    /// The client has sent HELO or EHLO; it may do so more than once.
    ///
    /// - Parameter name: the client's name for itself; valid until the call returns.
    func helo(_ context: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>)

    /// The client has sent MAIL; the path of the arguments is the reverse-path.
    func mail(_ context: borrowing MilterContext, arguments: borrowing MilterArguments)

    /// The client has sent RCPT, and waits for the response; the path of the arguments is the recipient.
    ///
    /// An MTA that supports it also passes the recipients that it has rejected itself: the macro `{rcpt_mailer}` is
    /// then `error`, `{rcpt_host}` the enhanced status code and `{rcpt_addr}` the text of the reply. The response to
    /// such a recipient changes nothing.
    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse

    /// The message ends without being accepted: RSET, a new MAIL, or the end of the connection.
    func abort(_ context: borrowing MilterContext)

    /// The connection is over. This is the last call; it comes once, however the connection ended.
    func close()
}

extension MilterSession {
    /// Does nothing.
    public func helo(_: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) {}
    /// Does nothing.
    public func mail(_: borrowing MilterContext, arguments: borrowing MilterArguments) {}
    /// Does nothing.
    public func abort(_: borrowing MilterContext) {}
    /// Does nothing.
    public func close() {}
}

/// The SMTP client that has connected to the MTA.
public struct MilterConnection: Sendable {
    /// The client's name, which the MTA has looked up by the address; the address in brackets if it has none.
    public let hostname: String
    /// The client's address; nil for a local client, and if the MTA doesn't know the address.
    public let address: IPAddress?
    /// Whether the client is a process on the MTA's machine, connected by a unix socket.
    public let isLocal: Bool

    /// The client that libmilter's `xxfi_connect` describes.
    init(hostname: String, _ address: UnsafePointer<sockaddr>?) {
        self.hostname = hostname
        self.address = IPAddress(address)
        isLocal = address.map { Int32($0.pointee.sa_family) == AF_UNIX } ?? false
    }
}

/// The arguments of MAIL or RCPT: the path, then the ESMTP parameters.
///
/// libmilter owns the bytes; they are valid until the session's call returns.
public struct MilterArguments: ~Copyable {
    private let strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?

    init(_ strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) { self.strings = strings }

    /// The reverse-path or forward-path, mostly within `<>`; empty if the MTA sent no argument.
    public var path: UnsafeBufferPointer<UInt8> {
        self[0] ?? UnsafeBufferPointer(start: nil, count: 0)
    }

    /// The largest ``count``: no mail command has as many arguments, but a packet of garbage may hold 60,000.
    public static let maximumCount = 64

    /// The argument at a position, 0 being the path; nil past the last one.
    public subscript(position: Int) -> UnsafeBufferPointer<UInt8>? {
        guard position >= 0, position < count, let string = strings?[position] else { return nil }
        return UnsafeBufferPointer(cString: string)
    }

    /// The number of arguments, path included, counted up to ``maximumCount``.
    public var count: Int {
        guard let strings else { return 0 }
        var count = 0
        while count < Self.maximumCount && strings[count] != nil { count += 1 }
        return count
    }
}

/// The response to RCPT; libmilter's `SMFIS_` values. ``MilterContext/refuse(_:text:)`` returns the response for a reply
/// with a text of its own.
public enum MilterResponse: Sendable, Equatable {
    /// Accept the recipient; other filters and the MTA may still reject it. `SMFIS_CONTINUE`.
    case `continue`
    /// Accept the whole message without asking this filter again. `SMFIS_ACCEPT`.
    case accept
    /// Reject the recipient with the reply set, or the MTA's own 5xx reply. `SMFIS_REJECT`.
    case reject
    /// Defer the recipient with the reply set, or the MTA's own 4xx reply. `SMFIS_TEMPFAIL`.
    case tempfail
    /// Accept the whole message and discard it silently. `SMFIS_DISCARD`.
    case discard
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a C string without its NUL.
    init(cString: UnsafePointer<CChar>) {
        let count = strlen(cString)
        self.init(start: UnsafeRawPointer(cString).assumingMemoryBound(to: UInt8.self), count: count)
    }
}

/// The event that a session is called for: the macros that the MTA has sent, and the reply to the client.
///
/// A context is valid until the call returns, on the thread of the call.
public struct MilterContext: ~Copyable {
    let handle: OpaquePointer

    init(_ handle: OpaquePointer) { self.handle = handle }

    /// The value of a macro, from the latest stage that has it; nil if the MTA hasn't sent it. `smfi_getsymval`.
    ///
    /// - Parameter name: the name, in braces if it has more than one letter: `i`, `{auth_authen}`.
    /// - Returns: bytes that libmilter owns; they are valid until the call returns. Nothing is allocated.
    public func macro(_ name: StaticString) -> UnsafeBufferPointer<UInt8>? {
        guard name.hasPointerRepresentation else { return nil }
        return name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) { name in
            cmilter_macro(handle, name).map { UnsafeBufferPointer(cString: $0) }
        }
    }

    /// Runs a body that waits, for example to delay a reply, while another thread serves the other connections.
    ///
    /// - Returns: false, without having run the body, if a thousand calls wait already or no thread can be started.
    @discardableResult
    public func wait(_ body: () -> Void) -> Bool {
        Channel.of(handle)?.pointee.server._withUnsafeGuaranteedRef { $0.wait(body) } ?? false
    }

    // MARK: Replies

    /// The longest text of a reply that libmilter accepts, in bytes; each `%` counts twice.
    public static let maximumReplyLength = 980

    /// Sets the reply to the command in progress, and returns the response to return to the MTA; `smfi_setreply`.
    ///
    /// The client receives the text as it is given, but for control characters (also CR, LF and NUL), which become `?`,
    /// and characters past ``maximumReplyLength``, which are cut off. Nothing is allocated.
    ///
    /// - Returns: ``MilterResponse/tempfail`` for a 4xx code, ``MilterResponse/reject`` for a 5xx code. The session
    ///   must return it: libmilter drops a reply whose class disagrees with the response. If the reply code is invalid,
    ///   `tempfail` with the MTA's own text.
    public func refuse(_ codes: ReplyCodes, text: UnsafeBufferPointer<UInt8>) -> MilterResponse {
        guard codes.isValid else { return .tempfail }
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.maximumReplyLength + 1) { buffer in
            guard let start = buffer.baseAddress else { return }
            Self.copyText(text, to: start)
            codes.withStrings { _ = cmilter_setreply(handle, $0, $1, start) }
        }
        return codes.response
    }

    /// Copies a reply text and a NUL, with `%` doubled as libmilter demands; the target has ``maximumReplyLength``
    /// bytes and one.
    static func copyText(_ text: UnsafeBufferPointer<UInt8>, to target: UnsafeMutablePointer<CChar>) {
        if let start = text.baseAddress, text.count <= maximumReplyLength, isPlain(text) {
            memcpy(target, start, text.count)
            target[text.count] = 0
            return
        }
        var length = 0
        var taken = 0
        for byte in text {
            let isPercent = byte == UInt8(ascii: "%")
            guard length + (isPercent ? 2 : 1) <= maximumReplyLength else { break }
            let isControl = byte < 0x20 || byte == 0x7f
            target[length] = isControl ? CChar(bitPattern: UInt8(ascii: "?")) : CChar(bitPattern: byte)
            if isPercent { target[length + 1] = target[length] }
            length += isPercent ? 2 : 1
            taken += 1
        }
        if taken < text.count && isContinuation(text[taken]) {
            // The cut is within a UTF-8 sequence: remove its beginning too, at most three bytes.
            var cut = 0
            while cut < 3 && length > 0 && isContinuation(UInt8(bitPattern: target[length - 1])) {
                length -= 1
                cut += 1
            }
            if length > 0 && UInt8(bitPattern: target[length - 1]) >= 0xc0 { length -= 1 }
        }
        target[length] = 0
    }

    /// Whether the text has no byte to double or replace.
    private static func isPlain(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
        // Without an early exit, so that the compiler can check many bytes at once.
        var odd: UInt8 = 0
        for byte in text { odd |= (byte < 0x20 ? 1 : 0) | (byte == 0x7f ? 1 : 0) | (byte == 0x25 ? 1 : 0) }
        return odd == 0
    }

    private static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
}

/// The reply code and enhanced status code of a reply, checked once and used for many replies.
public struct ReplyCodes: Sendable {
    /// NUL-terminated; all NUL if the reply code is invalid.
    private var code = InlineArray<4, CChar>(repeating: 0)
    /// NUL-terminated; all NUL if the reply has no enhanced code.
    private var enhancedCode = InlineArray<12, CChar>(repeating: 0)
    /// The response that the reply code demands; see ``MilterContext/refuse(_:text:)``.
    let response: MilterResponse

    var isValid: Bool { code[0] != 0 }

    /// - Parameters:
    ///   - code: the reply code, three digits that begin with 4 or 5 (RFC 5321 section 4.2).
    ///   - enhancedCode: the enhanced status code, such as `5.1.1` (RFC 3463). A malformed code, or one of another
    ///     class than the reply code, is left out.
    public init(code: String, enhancedCode: String?) {
        guard let kind = Self.replyClass(code) else {
            response = .tempfail
            return
        }
        response = kind == UInt8(ascii: "4") ? .tempfail : .reject
        for (place, byte) in code.utf8.enumerated() { self.code[place] = CChar(bitPattern: byte) }
        guard let enhancedCode, Self.isEnhancedCode(enhancedCode, ofClass: kind) else { return }
        for (place, byte) in enhancedCode.utf8.enumerated() { self.enhancedCode[place] = CChar(bitPattern: byte) }
    }

    /// Calls the body with both codes as C strings; the second is nil if there is no enhanced code.
    func withStrings(_ body: (UnsafePointer<CChar>, UnsafePointer<CChar>?) -> Void) {
        code.span.withUnsafeBufferPointer { code in
            enhancedCode.span.withUnsafeBufferPointer { enhancedCode in
                guard let code = code.baseAddress else { return }
                body(code, enhancedCode[0] == 0 ? nil : enhancedCode.baseAddress)
            }
        }
    }

    /// The first digit of a 4xx or 5xx reply code; nil for any other text.
    static func replyClass(_ code: String) -> UInt8? {
        let digits = code.utf8
        guard digits.count == 3, let first = digits.first else { return nil }
        guard first == UInt8(ascii: "4") || first == UInt8(ascii: "5"), digits.allSatisfy(isDigit) else { return nil }
        return first
    }

    /// Whether the text is `class.subject.detail` with one to three digits in the last two (RFC 3463 section 2).
    static func isEnhancedCode(_ code: String, ofClass kind: UInt8) -> Bool {
        var part = 0
        var digits = 0
        for byte in code.utf8 {
            if byte == UInt8(ascii: ".") {
                guard digits > 0 else { return false }
                part += 1
                digits = 0
                continue
            }
            digits += 1
            guard isDigit(byte), digits <= (part == 0 ? 1 : 3), part <= 2 else { return false }
            if part == 0 && byte != kind { return false }
        }
        return part == 2 && digits > 0
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
}
