/// A recipient of RCPT TO in its canonical form: two spellings that reach the same mailbox have the same `key`.
///
/// The canonical form has no brackets, quotes, comments or source route; its local part is case-folded (in UTF-8 also
/// in NFC), its domain an A-label in lower case without a trailing dot, or an address in brackets. A value of about
/// 520 bytes that owns no heap memory. Syntax of RFC 5321 section 4.1.2 and sizes, both read as leniently as Postfix reads
/// them: the local part has no limit of its own, because Postfix has none and mailing lists, SRS and VERP write more than the
/// 64 bytes of section 4.5.3.1.1.
public struct RecipientAddress: Sendable {
    /// The longest canonical address, in bytes: as much as an SMTP command line holds (RFC 5321 section 4.5.3.1.4).
    static let maximumCount = 512

    /// Bytes past `keyCount` mean nothing.
    @usableFromInline var bytes: InlineArray<512, UInt8>
    @usableFromInline var keyCount: UInt16
    /// As many as `keyCount` where there is no domain.
    @usableFromInline var localCount: UInt16

    /// Whether the local part would be routed on: it holds `%`, `!` or `@`, quoted or not (`user%other@example.com`,
    /// `host!user@example.com`, `user@other@example.com`).
    ///
    /// Quotes don't protect these, because the next MTA may look inside them; Postfix does.
    public internal(set) var isRouted: Bool

    /// The canonical form of a path as the MTA hands it over.
    ///
    /// - Parameter path: what stood after `RCPT TO:`, with or without angle brackets, with or without blanks around
    ///   it; ESMTP parameters after it are left aside. Needs no terminating NUL, isn't kept.
    public init(path: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        self.init()
        if !takePlain(path) { try takeAny(path) }
    }

    /// The canonical form of a path or a bare address in text.
    public init(path: String) throws(AddressError) {
        var path = path
        // withUTF8 rethrows any error, a Result keeps its type.
        let result = path.withUTF8 { bytes in Result { () throws(AddressError) in try Self(path: bytes) } }
        self = try result.get()
    }

    /// A value to be filled.
    init() {
        bytes = InlineArray(repeating: 0)
        keyCount = 0
        localCount = 0
        isRouted = false
    }

    /// Whether there is a domain. Without one a recipient is valid only as `<postmaster>`, or where the MTA completes it.
    @inlinable public var hasDomain: Bool { localCount < keyCount }

    /// Gives `local@domain` in canonical form, without `@` where there is no domain; the last `@` ends the local part.
    ///
    /// The buffer lives as long as the call and has no terminating NUL.
    @inlinable
    public func withKey<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withBytes(body)
    }

    /// Gives the canonical local part: up to 512 bytes, unquoted; empty only for `""@example.com`.
    @inlinable
    public func withLocalPart<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withBytes { try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(localCount), $0.count)])) }
    }

    /// Gives the canonical domain, empty where there is none.
    @inlinable
    public func withDomain<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try withBytes { try body(UnsafeBufferPointer(rebasing: $0[min(Int(localCount) &+ 1, $0.count)...])) }
    }

    /// The same local part in another domain.
    ///
    /// - Parameter domain: an A-label in lower case.
    /// - Returns: nil where the address would be too long.
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

    /// `local@domain` in canonical form.
    public var key: String { withKey { String(decoding: $0, as: UTF8.self) } }

    /// The canonical local part, unquoted.
    public var localPart: String { withLocalPart { String(decoding: $0, as: UTF8.self) } }

    /// The canonical domain, empty where there is none.
    public var domain: String { withDomain { String(decoding: $0, as: UTF8.self) } }

    @inlinable
    func withBytes<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try bytes.span.withUnsafeBufferPointer {
            try body(UnsafeBufferPointer(rebasing: $0[..<min(Int(keyCount), $0.count)]))
        }
    }
}

extension RecipientAddress: Hashable {
    /// Whether both have the same key; its last `@` tells where the local part ends.
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
