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

    /// Whether another MTA could route the message on by the local part: it contains `%`, `!` or `@`, quoted or not
    /// (`user%other@example.com`, `host!user@example.com`, `user@other@example.com`).
    ///
    /// Quotes make no difference: the next MTA may interpret the quoted text, as Postfix does.
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
        var path = path
        // withUTF8 rethrows any error, a Result keeps its type.
        let result = path.withUTF8 { bytes in Result { () throws(AddressError) in try Self(path: bytes) } }
        self = try result.get()
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
        try withBytes(body)
    }

    /// Calls the body with the canonical local part: up to 512 bytes, unquoted; empty only for `""@example.com`.
    @inlinable
    public func withLocalPart<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withBytes { try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(localCount), $0.count)])) }
    }

    /// Calls the body with the canonical domain; empty if there is none.
    @inlinable
    public func withDomain<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withBytes { try body(UnsafeBufferPointer(rebasing: $0[min(Int(localCount) &+ 1, $0.count)...])) }
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

    @inlinable
    func withBytes<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try bytes.span.withUnsafeBufferPointer {
            try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(keyCount), $0.count)]))
        }
    }
}

extension RecipientAddress: Hashable {
    /// Whether both have the same key.
    public static func == (left: Self, right: Self) -> Bool {
        left.withKey { left in right.withKey { left.elementsEqual($0) } }
    }

    /// Hashes the key.
    public func hash(into hasher: inout Hasher) {
        withKey { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

extension RecipientAddress: CustomStringConvertible {
    /// The key.
    public var description: String { key }
}
