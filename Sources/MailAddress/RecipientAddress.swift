internal import Foundation

/// The canonical form of a recipient's address: spellings that reach the same mailbox have the same ``key``.
///
/// The canonical form has no brackets, quotes, comments or source route. The local part is case-folded; if it is UTF-8,
/// also in NFC. The domain is an A-label in lower case without a trailing dot, or an address literal in brackets. A
/// value has about 520 bytes and owns no heap memory.
///
/// Syntax and sizes are those of RFC 5321, sections 4.1.2 and 4.5.3.1, applied as leniently as Postfix does. The local
/// part has no limit of its own: Postfix has none, and mailing lists, SRS and VERP exceed the 64 bytes of section
/// 4.5.3.1.1.
public struct RecipientAddress: Sendable {
    /// The longest canonical address in bytes, which is that of an SMTP command line (RFC 5321 section 4.5.3.1.4).
    static let maximumCount = 512

    /// The key; bytes past `keyCount` are undefined.
    @usableFromInline var bytes: InlineArray<512, UInt8>
    @usableFromInline var keyCount: UInt16
    /// The length of the local part; equal to `keyCount` if there is no domain.
    @usableFromInline var localCount: UInt16

    /// Whether another MTA could route the message on by the local part: it contains `%`, `!` or `@`, quoted or not,
    /// as in `user%other@example.com`. The next MTA may interpret quoted text, too.
    public internal(set) var isRouted: Bool

    /// The canonical form of a path from the MTA.
    ///
    /// - Parameter path: the text after `RCPT TO:`, with or without angle brackets and blanks around it. ESMTP
    ///   parameters after it are ignored. No NUL is needed at its end.
    public init(path: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        self.init()
        if !setPlain(path) { try setAny(path) }
    }

    /// The canonical form of a path or an address without brackets.
    public init(path: String) throws(AddressError) {
        self = try path.utf8.span.withUnsafeBufferPointer { (bytes) throws(AddressError) in try Self(path: bytes) }
    }

    /// An empty address, to be filled.
    init() {
        bytes = InlineArray(repeating: 0)
        keyCount = 0
        localCount = 0
        isRouted = false
    }

    /// Whether there is a domain. Without one, a recipient is valid only as `<postmaster>`, or if the MTA completes it.
    @inlinable public var hasDomain: Bool { localCount < keyCount }

    /// Calls the body with the bytes of ``key``, which are valid during the call and not NUL-terminated.
    @inlinable
    public func withKey<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try bytes.span.withUnsafeBufferPointer {
            try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(keyCount), $0.count)]))
        }
    }

    /// Calls the body with the canonical local part: up to 512 bytes, unquoted; empty only for `""@example.com`.
    @inlinable
    public func withLocalPart<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withKey { try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(localCount), $0.count)])) }
    }

    /// Calls the body with the canonical domain; empty if there is none.
    @inlinable
    public func withDomain<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withKey { try body(UnsafeBufferPointer(rebasing: $0[min(Int(localCount) &+ 1, $0.count)...])) }
    }

    /// The address with the same local part in another domain; nil if it would be too long.
    ///
    /// - Parameter domain: an A-label in lower case.
    public func inDomain(_ domain: UnsafeBufferPointer<UInt8>) -> RecipientAddress? {
        var count = Int(localCount) &+ 1
        guard hasDomain, count &+ domain.count <= Self.maximumCount else { return nil }
        var moved = self
        for byte in domain {
            moved.bytes[count] = byte
            count &+= 1
        }
        moved.keyCount = UInt16(truncatingIfNeeded: count)
        return moved
    }

    /// The canonical form, `local@domain`, without `@` if there is no domain; the last `@` ends the local part.
    public var key: String { withKey { String(decoding: $0, as: UTF8.self) } }

    /// The canonical local part, unquoted.
    public var localPart: String { withLocalPart { String(decoding: $0, as: UTF8.self) } }

    /// The canonical domain; empty if there is none.
    public var domain: String { withDomain { String(decoding: $0, as: UTF8.self) } }
}

extension RecipientAddress: Hashable, CustomStringConvertible {
    /// Whether both have the same key.
    public static func == (left: Self, right: Self) -> Bool {
        left.withKey { left in right.withKey { left.elementsEqual($0) } }
    }

    /// Hashes the key.
    public func hash(into hasher: inout Hasher) { withKey { hasher.combine(bytes: UnsafeRawBufferPointer($0)) } }

    /// The key.
    public var description: String { key }
}

// MARK: Parsing

extension RecipientAddress {
    /// The characters that a local part may contain without quotes: atext and dots (RFC 5321 section 4.1.2).
    ///
    /// Dots may stand anywhere: some mobile carriers issue addresses such as `.a..b@example.com`, and MTAs accept them.
    static let plainLocal = ASCIISet(low: 0xA3FF_ECFA_0000_0000, high: 0x7FFF_FFFF_C7FF_FFFE)

    /// Sets the address to a path in one pass if it is plain: valid ASCII without quotes, comments, blanks, route or
    /// parameters.
    ///
    /// - Returns: false if the path isn't plain. The address is then undefined until ``setAny(_:)`` has set it.
    mutating func setPlain(_ path: UnsafeBufferPointer<UInt8>) -> Bool {
        var next = 0
        var end = path.count
        guard end > 1 else { return false }
        if path[0] == UInt8(ascii: "<") {
            guard path[end &- 1] == UInt8(ascii: ">") else { return false }
            next = 1
            end &-= 1
        }
        guard next < end, end &- next <= Self.maximumCount else { return false }

        let plain = Self.plainLocal
        var count = 0
        var routed = false
        while next < end {
            let byte = path[next]
            if byte == .at { break }
            guard plain.contains(byte) else { return false }
            routed = routed || byte == UInt8(ascii: "%") || byte == UInt8(ascii: "!")
            bytes[count] = byte.lowercasedASCII
            count &+= 1
            next &+= 1
        }
        guard count > 0 else { return false }
        let localCount = count

        if next < end {
            bytes[count] = .at
            count &+= 1
            next &+= 1
            var syntax = DomainSyntax()
            while next < end {
                let byte = path[next].lowercasedASCII
                next &+= 1
                if byte == .dot && next == end && syntax.labelCount > 0 { break }
                guard syntax.accepts(byte) else { return false }
                bytes[count] = byte
                count &+= 1
            }
            guard syntax.isComplete, count &- localCount &- 1 <= DomainSyntax.maximumCount else { return false }
        }
        self.localCount = UInt16(truncatingIfNeeded: localCount)
        keyCount = UInt16(truncatingIfNeeded: count)
        isRouted = routed
        return true
    }

    /// Sets the address to any path; allocates for UTF-8 only.
    mutating func setAny(_ path: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        let unquoted = try UnquotedAddress(PathEnvelope.address(in: path))
        try unquoted.bytes.span.withUnsafeBufferPointer { (bytes) throws(AddressError) in
            try set(
                unquoted: UnsafeBufferPointer(rebasing: bytes[..<unquoted.count]),
                mayLackLocalPart: unquoted.startsInQuotes)
        }
    }

    private mutating func set(
        unquoted: UnsafeBufferPointer<UInt8>, mayLackLocalPart: Bool
    ) throws(AddressError) {
        var text = unquoted
        // Postfix looks for a source route again once the quotes are removed.
        if text.first == .at, let colon = text.firstIndex(of: .colon), colon < text.count - 1,
            text[1] != UInt8(ascii: "[") || text.lastIndex(of: .at) != 0
        {
            text = UnsafeBufferPointer(rebasing: text[(colon + 1)...])
        }
        guard !text.isEmpty else { throw .empty }
        let at = text.lastIndex(of: .at)
        guard at != 0 || mayLackLocalPart else { throw .emptyLocalPart }
        try setLocalPart(UnsafeBufferPointer(rebasing: text[..<(at ?? text.count)]))
        guard let at else {
            keyCount = localCount
            return
        }
        let domain = try CanonicalDomain(UnsafeBufferPointer(rebasing: text[(at + 1)...]))
        var count = Int(localCount)
        guard count + 1 + domain.count <= Self.maximumCount else { throw .pathTooLong }
        bytes[count] = .at
        count &+= 1
        for position in 0..<domain.count {
            bytes[count] = domain.bytes[position]
            count &+= 1
        }
        keyCount = UInt16(truncatingIfNeeded: count)
    }

    private mutating func setLocalPart(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        if text.allSatisfy({ $0 < 0x80 }) {
            try setFolded(text)
        } else {
            guard let string = String(validating: text, as: UTF8.self) else { throw .invalidUTF8 }
            for scalar in string.unicodeScalars where (0x80..<0xA0).contains(scalar.value) {
                throw .controlCharacter(UInt8(truncatingIfNeeded: scalar.value))
            }
            try setFolded(string.foldedInNFC.utf8)
        }
    }

    private mutating func setFolded(_ localPart: some Collection<UInt8>) throws(AddressError) {
        var count = 0
        for byte in localPart {
            guard count < Self.maximumCount else { throw .pathTooLong }
            bytes[count] = byte.lowercasedASCII
            count &+= 1
        }
        localCount = UInt16(truncatingIfNeeded: count)
        keyCount = localCount
        isRouted = hasRoutingOperator
    }

    /// Whether the local part contains `@`, `%` or `!`.
    var hasRoutingOperator: Bool {
        withLocalPart { $0.contains { $0 == .at || $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "!") } }
    }
}

extension String {
    /// The string in NFC and case-folded, so that letters that differ by case only are equal.
    ///
    /// This is nearly Unicode's full case folding (ß equals ss). The standard library has case mappings only, so each
    /// letter is mapped to upper case and back.
    var foldedInNFC: String {
        precomposedStringWithCanonicalMapping.caseFolded.precomposedStringWithCanonicalMapping
    }

    private var caseFolded: String {
        var folded = UnicodeScalarView()
        for scalar in unicodeScalars {
            // The dotless i shares its capital with the dotted i, and case folding keeps it.
            if scalar == "\u{131}" {
                folded.append(scalar)
                continue
            }
            for small in scalar.properties.lowercaseMapping.unicodeScalars {
                for capital in small.properties.uppercaseMapping.unicodeScalars {
                    folded.append(contentsOf: capital.properties.lowercaseMapping.unicodeScalars)
                }
            }
        }
        return String(folded)
    }
}
