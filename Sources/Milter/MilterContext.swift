import CMilter
import Glibc

/// A call of libmilter's in progress: the macros that the MTA has sent, and the reply that it is to give.
///
/// Valid for the call that it is passed to, on its thread.
public struct MilterContext: ~Copyable {
    let handle: OpaquePointer

    init(_ handle: OpaquePointer) { self.handle = handle }

    /// The value of a macro in the latest stage that has it; nil when the MTA hasn't sent it (`smfi_getsymval`).
    ///
    /// - Parameter name: the name with its braces, if it is longer than one letter: `i`, `{auth_authen}`.
    /// - Returns: bytes that belong to libmilter and are gone when the call is over; nothing is allocated.
    public func macro(_ name: StaticString) -> UnsafeBufferPointer<UInt8>? {
        guard name.hasPointerRepresentation else { return nil }
        return name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) { name in
            cmilter_macro(handle, name).map { UnsafeBufferPointer(cString: $0) }
        }
    }

    /// Runs what may wait, such as to hold a reply back: another thread serves the other connections meanwhile.
    ///
    /// Nothing else in a call may wait, for a few threads serve all connections.
    ///
    /// - Returns: false, and nothing was run, where a thousand calls wait already or no thread can be started.
    @discardableResult
    public func wait(_ body: () -> Void) -> Bool {
        Channel.of(handle)?.pointee.server._withUnsafeGuaranteedRef { $0.wait(body) } ?? false
    }
}

extension MilterContext {
    /// The longest text of a reply that libmilter takes, in octets, each `%` counted twice.
    public static let maximumReplyLength = 980

    /// Sets the reply to the command in progress and gives the response that goes with it (`smfi_setreply`).
    ///
    /// The text is sent as it is meant: `%` is doubled for libmilter, a control character (so CR, LF and NUL too)
    /// becomes `?`, and what is over ``maximumReplyLength`` is cut off between two characters. Nothing is allocated.
    ///
    /// - Parameters:
    ///   - code: the three digits (RFC 5321 section 4.2), of class 4 or 5.
    ///   - enhancedCode: the enhanced status code (RFC 3463), such as `5.1.1`; one that isn't well-formed or of another
    ///     class than the code is left out.
    ///   - text: what follows the codes.
    /// - Returns: ``MilterResponse/tempfail`` for a code of class 4, ``MilterResponse/reject`` for one of class 5: return
    ///   it from the callback, for libmilter drops a reply whose class disagrees. A code that is none gives a tempfail
    ///   with the MTA's own text.
    public func refuse(code: String, enhancedCode: String?, text: UnsafeBufferPointer<UInt8>) -> MilterResponse {
        refuse(ReplyCodes(code: code, enhancedCode: enhancedCode), text: text)
    }

    /// The same with codes that were checked before.
    public func refuse(_ codes: ReplyCodes, text: UnsafeBufferPointer<UInt8>) -> MilterResponse {
        guard codes.isValid else { return .tempfail }
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.maximumReplyLength + 1) { buffer in
            guard let start = buffer.baseAddress else { return }
            Self.copyText(text, to: start)
            codes.withStrings { _ = cmilter_setreply(handle, $0, $1, start) }
        }
        return codes.response
    }

    /// The first digit of a reply code of class 4 or 5; nil for anything else.
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

    /// Copies a reply text with its NUL; the target has room for ``maximumReplyLength`` octets and one.
    static func copyText(_ text: UnsafeBufferPointer<UInt8>, to target: UnsafeMutablePointer<CChar>) {
        if let start = text.baseAddress, text.count <= maximumReplyLength, isAsItIs(text) {
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
            // Cut within a UTF-8 sequence: its beginning goes too, three octets at most.
            var cut = 0
            while cut < 3 && length > 0 && isContinuation(UInt8(bitPattern: target[length - 1])) {
                length -= 1
                cut += 1
            }
            if length > 0 && UInt8(bitPattern: target[length - 1]) >= 0xc0 { length -= 1 }
        }
        target[length] = 0
    }

    /// Whether nothing of the text has to be doubled or replaced.
    private static func isAsItIs(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
        // Without a way out, so that the compiler takes many octets at once.
        var odd: UInt8 = 0
        for byte in text { odd |= (byte < 0x20 ? 1 : 0) | (byte == 0x7f ? 1 : 0) | (byte == 0x25 ? 1 : 0) }
        return odd == 0
    }

    private static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
}

/// The codes of a reply, checked once for all the times that it is given.
public struct ReplyCodes: Sendable {
    /// With its NUL, and nothing but NULs where it is none.
    private var code = InlineArray<4, CChar>(repeating: 0)
    /// With its NUL; only NULs where it is left out.
    private var enhancedCode = InlineArray<12, CChar>(repeating: 0)
    /// What goes with the code; see ``MilterContext/refuse(code:enhancedCode:text:)``.
    let response: MilterResponse

    var isValid: Bool { code[0] != 0 }

    /// Takes the codes as ``MilterContext/refuse(code:enhancedCode:text:)`` does.
    public init(code: String, enhancedCode: String?) {
        guard let kind = MilterContext.replyClass(code) else {
            response = .tempfail
            return
        }
        response = kind == UInt8(ascii: "4") ? .tempfail : .reject
        for (place, byte) in code.utf8.enumerated() { self.code[place] = CChar(bitPattern: byte) }
        guard let enhancedCode, MilterContext.isEnhancedCode(enhancedCode, ofClass: kind) else { return }
        for (place, byte) in enhancedCode.utf8.enumerated() { self.enhancedCode[place] = CChar(bitPattern: byte) }
    }

    /// Gives both as C strings; nil where there is no enhanced code.
    func withStrings(_ body: (UnsafePointer<CChar>, UnsafePointer<CChar>?) -> Void) {
        code.span.withUnsafeBufferPointer { code in
            enhancedCode.span.withUnsafeBufferPointer { enhancedCode in
                guard let code = code.baseAddress else { return }
                body(code, enhancedCode[0] == 0 ? nil : enhancedCode.baseAddress)
            }
        }
    }
}
