/// What stands around an address in the argument of RCPT TO: blanks, angle brackets, ESMTP parameters.
enum PathEnvelope {
    /// More than any SMTP command line that MTAs take; it bounds the work for one path.
    private static let maximumCount = 4096

    /// The address without its surroundings and without a source route (RFC 5321 section 4.1.1.3), still quoted.
    static func address(in path: UnsafeBufferPointer<UInt8>) throws(AddressError) -> UnsafeBufferPointer<UInt8> {
        guard path.count <= maximumCount else { throw .pathTooLong }
        var text = trimmed(path)
        guard text.first == UInt8(ascii: "<") else {
            return try withoutRoute(trimmed(withoutParameters(text)))
        }
        // Twice, as some send <<user@example.com>>.
        for isOutermost in [true, false] where text.first == UInt8(ascii: "<") {
            let end = try closingBracket(text)
            let rest = UnsafeBufferPointer(rebasing: text[(end + 1)...])
            guard rest.isEmpty || (isOutermost && rest[0].isBlank && startsParameter(trimmed(rest), value: false))
            else {
                throw .textAfterPath
            }
            text = trimmed(UnsafeBufferPointer(rebasing: text[1..<end]))
        }
        return try withoutRoute(text)
    }

    private static func trimmed(_ text: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
        guard let first = text.firstIndex(where: { !$0.isBlank }), let last = text.lastIndex(where: { !$0.isBlank })
        else { return UnsafeBufferPointer(start: nil, count: 0) }
        return UnsafeBufferPointer(rebasing: text[first...last])
    }

    /// The place of the bracket that closes the first one; brackets within quotes don't count, nested ones do.
    private static func closingBracket(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) -> Int {
        var depth = 0
        var isQuoted = false
        var next = 0
        while next < text.count {
            switch text[next] {
            case .backslash: next += 1
            case .quote: isQuoted.toggle()
            case UInt8(ascii: "<") where !isQuoted: depth += 1
            case UInt8(ascii: ">") where !isQuoted:
                depth -= 1
                if depth == 0 { return next }
            default: break
            }
            next += 1
        }
        throw .unbalanced(isQuoted ? .quote : UInt8(ascii: "<"))
    }

    /// Cuts off ` KEYWORD=value…` after an address without brackets.
    private static func withoutParameters(_ text: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
        var isQuoted = false
        var hasAt = false
        var next = 0
        while next < text.count {
            switch text[next] {
            case .backslash: next += 1
            case .quote: isQuoted.toggle()
            case .at where !isQuoted: hasAt = true
            case let byte where byte.isBlank && !isQuoted && hasAt && !text[next - 1].isBlank:
                if startsParameter(trimmed(UnsafeBufferPointer(rebasing: text[next...])), value: true) {
                    return UnsafeBufferPointer(rebasing: text[..<next])
                }
            default: break
            }
            next += 1
        }
        return text
    }

    /// Whether the text begins with an ESMTP parameter (RFC 5321 section 4.1.2), of which a value may be demanded.
    private static func startsParameter(_ text: UnsafeBufferPointer<UInt8>, value: Bool) -> Bool {
        let keyword = text.prefix { $0.isLetter || $0.isDigit || $0 == .hyphen }
        guard let first = keyword.first, first != .hyphen else { return false }
        guard keyword.count < text.count else { return !value }
        return text[keyword.count] == UInt8(ascii: "=") || (!value && text[keyword.count].isBlank)
    }

    /// Strips `@a,@b:`; whatever stands before the first colon is ignored.
    private static func withoutRoute(
        _ text: UnsafeBufferPointer<UInt8>
    ) throws(AddressError) -> UnsafeBufferPointer<UInt8> {
        guard text.first == .at, let colon = text.firstIndex(of: .colon) else { return text }
        for byte in text[..<colon] where byte.isControl && byte != 0x09 { throw .controlCharacter(byte) }
        return UnsafeBufferPointer(rebasing: text[(colon + 1)...])
    }
}
