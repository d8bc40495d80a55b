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
