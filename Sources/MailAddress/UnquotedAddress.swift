/// An address without quotes, comments and blanks between its parts, not yet case-folded; Postfix's internal form.
///
/// The grammar is that of RFC 822 as Postfix applies it (`tok822_parse`): words separated by `.`, `@`, `!`, `%`, `|` or
/// `:`, with blanks and comments around these, and quoted pairs anywhere. Dots may stand anywhere.
struct UnquotedAddress {
    private(set) var bytes: InlineArray<512, UInt8> = InlineArray(repeating: 0)
    private(set) var count = 0
    /// Whether the address begins with quotes: only `""` may be an empty local part.
    private(set) var startsInQuotes = false
    private var text: UnsafeBufferPointer<UInt8>
    private var next = 0
    /// Whether a word may follow, as at the beginning and after an operator.
    private var mayBeginWord = true

    /// The characters `.@!%|:`, which separate words.
    static let operators = ASCIISet(low: 0x0400_4022_0000_0000, high: 0x1000_0000_0000_0001)
    /// The characters that end an atom: the operators, blanks and `()<>[],;"`.
    static let specials = ASCIISet(low: 0x5C00_5327_0000_0200, high: 0x1000_0000_2800_0001)

    init(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        self.text = text
        while next < text.count {
            let byte = text[next]
            switch byte {
            case 0x20, 0x09: next += 1
            case UInt8(ascii: "("): try skipComment()
            case .quote: try appendQuoted(until: .quote)
            case UInt8(ascii: "["): try appendLiteral()
            case UInt8(ascii: ")"), UInt8(ascii: "]"), UInt8(ascii: ">"): throw .unbalanced(byte)
            case UInt8(ascii: "<"), UInt8(ascii: ","), UInt8(ascii: ";"): throw .unexpectedCharacter(byte)
            case _ where Self.operators.contains(byte):
                try append(byte)
                next += 1
                mayBeginWord = true
            default: try appendAtom()
            }
        }
        // The caller's memory is valid during the call only.
        self.text = UnsafeBufferPointer(start: nil, count: 0)
    }

    private mutating func append(_ byte: UInt8) throws(AddressError) {
        guard count < bytes.count else { throw .pathTooLong }
        bytes[count] = byte
        count &+= 1
    }

    private mutating func beginWord() throws(AddressError) {
        guard mayBeginWord else { throw .adjacentWords }
        mayBeginWord = false
    }

    /// Appends the next byte of a word, without the backslash before it; a tab becomes a blank, as in Postfix.
    private mutating func appendByte(orThrow error: AddressError) throws(AddressError) {
        if text[next] == .backslash { next += 1 }
        guard next < text.count else { throw error }
        let byte = text[next] == 0x09 ? 0x20 : text[next]
        guard !byte.isControl else { throw .controlCharacter(byte) }
        try append(byte)
        next += 1
    }

    private mutating func appendAtom() throws(AddressError) {
        try beginWord()
        while next < text.count, text[next] == .backslash || !Self.specials.contains(text[next]) {
            try appendByte(orThrow: .unbalanced(.backslash))
        }
    }

    private mutating func appendQuoted(until end: UInt8) throws(AddressError) {
        let opening = text[next]
        if opening == .quote && count == 0 { startsInQuotes = true }
        try beginWord()
        next += 1
        while next < text.count, text[next] != end { try appendByte(orThrow: .unbalanced(opening)) }
        guard next < text.count else { throw .unbalanced(opening) }
        next += 1
    }

    /// Appends a domain literal with its brackets, which must follow an `@`.
    private mutating func appendLiteral() throws(AddressError) {
        guard mayBeginWord, count > 0, bytes[count - 1] == .at else { throw .unexpectedCharacter(UInt8(ascii: "[")) }
        try append(UInt8(ascii: "["))
        try appendQuoted(until: UInt8(ascii: "]"))
        try append(UInt8(ascii: "]"))
    }

    private mutating func skipComment() throws(AddressError) {
        var depth = 0
        while next < text.count {
            let byte = text[next]
            next += 1
            switch byte {
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"):
                depth -= 1
                if depth == 0 { return }
            case .backslash: next += 1
            default: if byte.isControl && byte != 0x09 { throw .controlCharacter(byte) }
            }
        }
        throw .unbalanced(UInt8(ascii: "("))
    }
}

/// Removes the text around an address in the argument of RCPT TO: blanks, angle brackets, ESMTP parameters.
enum PathEnvelope {
    /// The longest path that is examined: longer than any SMTP command line that MTAs accept.
    private static let maximumCount = 4096

    /// The address in a path without the text around it and without a source route (RFC 5321 section 4.1.1.3), still
    /// quoted.
    static func address(in path: UnsafeBufferPointer<UInt8>) throws(AddressError) -> UnsafeBufferPointer<UInt8> {
        guard path.count <= maximumCount else { throw .pathTooLong }
        var text = trimmed(path)
        guard text.first == UInt8(ascii: "<") else {
            return try withoutRoute(trimmed(withoutParameters(text)))
        }
        // Twice, as some clients send <<user@example.com>>.
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

    /// The position of the bracket that closes the first one; brackets may be nested, and don't count within quotes.
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

    /// The text without ` KEYWORD=value…` after an address that has no brackets.
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

    /// Whether the text begins with an ESMTP parameter (RFC 5321 section 4.1.2).
    ///
    /// - Parameter value: whether the parameter must have a value.
    private static func startsParameter(_ text: UnsafeBufferPointer<UInt8>, value: Bool) -> Bool {
        let keyword = text.prefix { $0.isLetter || $0.isDigit || $0 == .hyphen }
        guard let first = keyword.first, first != .hyphen else { return false }
        guard keyword.count < text.count else { return !value }
        return text[keyword.count] == UInt8(ascii: "=") || (!value && text[keyword.count].isBlank)
    }

    /// The text without a source route, `@a,@b:`; the text before the first colon is ignored.
    private static func withoutRoute(
        _ text: UnsafeBufferPointer<UInt8>
    ) throws(AddressError) -> UnsafeBufferPointer<UInt8> {
        guard text.first == .at, let colon = text.firstIndex(of: .colon) else { return text }
        for byte in text[..<colon] where byte.isControl && byte != 0x09 { throw .controlCharacter(byte) }
        return UnsafeBufferPointer(rebasing: text[(colon + 1)...])
    }
}

/// A set of ASCII bytes, in two words of bits instead of a table in memory.
struct ASCIISet: Sendable, Equatable {
    private let low: UInt64
    private let high: UInt64

    /// The set of the bytes whose bits are set: bytes 0 to 63 in `low`, 64 to 127 in `high`, from the lowest bit on.
    ///
    /// A constant made by this initializer needs no initialization at run time.
    init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    /// The set of the ASCII characters of a text; other characters are left out.
    init(_ characters: String) {
        var low: UInt64 = 0
        var high: UInt64 = 0
        for byte in characters.utf8 {
            if byte < 64 { low |= 1 << UInt64(byte) } else if byte < 128 { high |= 1 << UInt64(byte & 63) }
        }
        self.low = low
        self.high = high
    }

    @inline(__always)
    func contains(_ byte: UInt8) -> Bool {
        guard byte < 128 else { return false }
        return ((byte < 64 ? low : high) &>> UInt64(byte & 63)) & 1 != 0
    }

    var isEmpty: Bool { low | high == 0 }
}

extension UInt8 {
    /// The byte, an ASCII capital letter in lower case.
    @inline(__always)
    var lowercasedASCII: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }

    @inline(__always)
    var isDigit: Bool { self &- 0x30 < 10 }

    @inline(__always)
    var isLetter: Bool { (self | 0x20) &- 0x61 < 26 }

    var isBlank: Bool { self == 0x20 || self == 0x09 }

    var isControl: Bool { self < 0x20 || self == 0x7F }

    static var dot: UInt8 { 0x2E }
    static var at: UInt8 { 0x40 }
    static var colon: UInt8 { 0x3A }
    static var hyphen: UInt8 { 0x2D }
    static var backslash: UInt8 { 0x5C }
    static var quote: UInt8 { 0x22 }
}
