/// Writes the values of LDAP controls in the Basic Encoding Rules, as far as these need them (RFC 4511 section 5.1):
/// definite lengths, tags of one byte.
enum BER {
    static let boolean: UInt8 = 0x01
    static let integer: UInt8 = 0x02
    static let octetString: UInt8 = 0x04
    static let enumerated: UInt8 = 0x0a
    static let sequence: UInt8 = 0x30
    static let set: UInt8 = 0x31

    /// One element: tag, length, content.
    static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        var length: [UInt8] = []
        var rest = content.count
        if rest < 0x80 {
            length = [UInt8(truncatingIfNeeded: rest)]
        } else {
            while rest > 0 {
                length.insert(UInt8(truncatingIfNeeded: rest), at: 0)
                rest >>= 8
            }
            length.insert(0x80 | UInt8(truncatingIfNeeded: length.count), at: 0)
        }
        return [tag] + length + content
    }

    static func sequence(_ elements: [UInt8]...) -> [UInt8] { element(sequence, elements.flatMap { $0 }) }

    static func octets(_ bytes: some Sequence<UInt8>) -> [UInt8] { element(octetString, Array(bytes)) }

    static func enumerated(_ value: Int32) -> [UInt8] { element(enumerated, content(of: value)) }

    static func integer(_ value: Int32) -> [UInt8] { element(integer, content(of: value)) }

    static func boolean(_ value: Bool) -> [UInt8] { element(boolean, [value ? 0xff : 0]) }

    /// Two's complement in as few bytes as possible.
    private static func content(of value: Int32) -> [UInt8] {
        var bytes = withUnsafeBytes(of: value.bigEndian) { Array($0) }
        while bytes.count > 1, bytes[0] == 0 && bytes[1] < 0x80 || bytes[0] == 0xff && bytes[1] >= 0x80 {
            bytes.removeFirst()
        }
        return bytes
    }
}

/// Reads elements one after the other; malformed input gives nil and never traps.
struct BERReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: some Sequence<UInt8>) { rest = Array(bytes)[...] }

    var isAtEnd: Bool { rest.isEmpty }

    /// The tag of the next element.
    var tag: UInt8? { rest.first }

    /// The content of the next element, if it has this tag.
    mutating func read(_ tag: UInt8) -> ArraySlice<UInt8>? {
        guard rest.first == tag else { return nil }
        var reader = rest.dropFirst()
        guard let first = reader.popFirst() else { return nil }
        var length = Int(first)
        if first >= 0x80 {
            // A longer length exceeds any message.
            guard (1...4).contains(first & 0x7f) else { return nil }
            length = 0
            for _ in 0..<(first & 0x7f) {
                guard let byte = reader.popFirst() else { return nil }
                length = length << 8 | Int(byte)
            }
        }
        guard length <= reader.count else { return nil }
        let content = reader.prefix(length)
        rest = reader.dropFirst(length)
        return content
    }

    /// A reader of the content of the next element, if it has this tag.
    mutating func enter(_ tag: UInt8) -> BERReader? { read(tag).map { BERReader($0) } }

    /// The number in the next element, if it has this tag and at most four bytes.
    mutating func number(_ tag: UInt8) -> Int32? {
        guard let content = read(tag), (1...4).contains(content.count), let first = content.first else { return nil }
        return content.dropFirst().reduce(Int32(Int8(bitPattern: first))) { $0 << 8 | Int32($1) }
    }

    /// The next element if it is a boolean; else the default, which RFC 4533 omits.
    mutating func boolean(default value: Bool) -> Bool? {
        guard tag == BER.boolean else { return value }
        guard let content = read(BER.boolean), content.count == 1 else { return nil }
        return content.first != 0
    }

    /// The next element if it is an octet string; nil if not, as it may be omitted.
    mutating func optionalOctets() -> [UInt8]? { read(BER.octetString).map(Array.init) }
}

/// Reads elements where they lie, whatever their tags; ends at malformed input.
struct BERWalker {
    private var rest: UnsafeBufferPointer<UInt8>

    init(_ bytes: UnsafeBufferPointer<UInt8>) { rest = bytes }

    /// The content of the next element; nil at the end.
    mutating func next() -> UnsafeBufferPointer<UInt8>? {
        guard rest.count >= 2 else { return nil }
        var length = Int(rest[1])
        var start = 2
        if length >= 0x80 {
            let size = length & 0x7f
            guard (1...4).contains(size), rest.count >= start + size else { return nil }
            length = rest[start..<start + size].reduce(0) { $0 << 8 | Int($1) }
            start += size
        }
        guard length <= rest.count - start else { return nil }
        defer { rest = rest.slice(start + length..<rest.count) }
        return rest.slice(start..<start + length)
    }
}
