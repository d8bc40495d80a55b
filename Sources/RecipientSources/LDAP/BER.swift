/// The few forms of the Basic Encoding Rules that the values of LDAP controls are made of (RFC 4511 section 5.1): definite
/// lengths, tags of one octet.
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

    /// Two's complement in as few octets as hold the sign.
    private static func content(of value: Int32) -> [UInt8] {
        var bytes = withUnsafeBytes(of: value.bigEndian) { Array($0) }
        while bytes.count > 1, bytes[0] == 0 && bytes[1] < 0x80 || bytes[0] == 0xff && bytes[1] >= 0x80 {
            bytes.removeFirst()
        }
        return bytes
    }
}

/// Reads elements from the first to the last; what doesn't fit is nil and never traps.
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
            // More than four octets would be longer than any message.
            guard (1...4).contains(first & 0x7f) else { return nil }
            length = 0
            for _ in 0..<(first & 0x7f) {
                guard let octet = reader.popFirst() else { return nil }
                length = length << 8 | Int(octet)
            }
        }
        guard length <= reader.count else { return nil }
        let content = reader.prefix(length)
        rest = reader.dropFirst(length)
        return content
    }

    /// A reader of the content of the next element, if it has this tag.
    mutating func enter(_ tag: UInt8) -> BERReader? { read(tag).map { BERReader($0) } }

    /// A number of at most four octets.
    mutating func number(_ tag: UInt8) -> Int32? {
        guard let content = read(tag), (1...4).contains(content.count), let first = content.first else { return nil }
        return content.dropFirst().reduce(Int32(Int8(bitPattern: first))) { $0 << 8 | Int32($1) }
    }

    /// The next element if it is a boolean, else the default; RFC 4533 leaves defaults out.
    mutating func boolean(default value: Bool) -> Bool? {
        guard tag == BER.boolean else { return value }
        guard let content = read(BER.boolean), content.count == 1 else { return nil }
        return content.first != 0
    }

    /// The next element if it is an octet string; nil also where it is left out.
    mutating func optionalOctets() -> [UInt8]? { read(BER.octetString).map(Array.init) }
}

/// Goes through elements where they lie, whatever their tags; what doesn't fit ends it.
struct BERWalker {
    private var rest: UnsafeBufferPointer<UInt8>

    init(_ bytes: UnsafeBufferPointer<UInt8>) { rest = bytes }

    /// The content of the next element; nil at the end.
    mutating func next() -> UnsafeBufferPointer<UInt8>? {
        guard rest.count >= 2 else { return nil }
        var length = Int(rest[1])
        var start = 2
        if length >= 0x80 {
            let octets = length & 0x7f
            guard (1...4).contains(octets), rest.count >= start + octets else { return nil }
            length = rest[start..<start + octets].reduce(0) { $0 << 8 | Int($1) }
            start += octets
        }
        guard length <= rest.count - start else { return nil }
        defer { rest = rest.slice(start + length..<rest.count) }
        return rest.slice(start..<start + length)
    }
}
