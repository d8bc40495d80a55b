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
