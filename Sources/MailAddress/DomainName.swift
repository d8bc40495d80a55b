/// A domain name in canonical form, as `RecipientAddress` has it after the `@`.
public struct DomainName: Sendable, Hashable {
    /// The name as A-labels in lower case, without a trailing dot; an address literal stays in its brackets.
    public let aLabel: String

    /// The canonical form of a name in ASCII (A-labels among it) or UTF-8 (U-labels), or of an address literal.
    ///
    /// UTF-8 is converted by UTS #46, nontransitional. At most 255 bytes as A-labels, of 63 each.
    public init(_ text: String) throws(AddressError) {
        var text = text
        let result = text.withUTF8 { bytes in
            Result { () throws(AddressError) in
                let domain = try CanonicalDomain(bytes)
                return domain.bytes.span.withUnsafeBufferPointer {
                    String(decoding: $0.prefix(domain.count), as: UTF8.self)
                }
            }
        }
        aLabel = try result.get()
    }
}

extension DomainName: CustomStringConvertible {
    /// The A-label.
    public var description: String { aLabel }
}
