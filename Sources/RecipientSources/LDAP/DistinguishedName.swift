import CLDAP

/// A distinguished name (RFC 4514) that can be compared: attribute types and values in lower case, without blanks
/// between the parts.
struct DistinguishedName: Hashable {
    /// The parts from the root on: `dc=com`, `dc=example`, `ou=people`.
    private let parts: [String]

    /// The name that a text writes; nil for any other text. `ldap_str2dn(3)`.
    init?(_ text: String) {
        var parsed: LDAPDN?
        guard ldap_str2dn(text, &parsed, UInt32(LDAP_DN_FORMAT_LDAPV3)) == LDAP_SUCCESS else { return nil }
        defer { ldap_dnfree(parsed) }
        var parts: [String] = []
        var next = parsed
        while let place = next, let rdn = place.pointee {
            var values: [String] = []
            var part: LDAPRDN? = rdn
            while let ava = part?.pointee {
                values.append(
                    Self.text(ava.pointee.la_attr).lowercased() + "=" + Self.text(ava.pointee.la_value).lowercased())
                part = part?.advanced(by: 1)
            }
            parts.append(values.sorted().joined(separator: "+"))
            next = place.advanced(by: 1)
        }
        self.parts = parts.reversed()
    }

    /// Whether the name is the base or below it.
    func isWithin(_ base: DistinguishedName) -> Bool { parts.starts(with: base.parts) }

    /// The number of its parts.
    var depth: Int { parts.count }

    private static func text(_ value: berval) -> String {
        guard let start = value.bv_val else { return "" }
        return String(
            decoding: UnsafeRawBufferPointer(start: start, count: Int(value.bv_len)), as: UTF8.self)
    }
}
