import CLDAP

/// A message from a server: an entry, a search reference, a result or an intermediate response.
final class LDAPMessage {
    enum Kind {
        case entry, reference, intermediate, result
    }

    private let connection: LDAPConnection
    private let message: OpaquePointer

    /// Owns the message from now on.
    init(_ connection: LDAPConnection, _ message: OpaquePointer) {
        self.connection = connection
        self.message = message
    }

    deinit { ldap_msgfree(message) }

    /// The message ID of the request that it answers.
    var id: Int32 { ldap_msgid(message) }

    var kind: Kind {
        switch ber_tag_t(bitPattern: Int(ldap_msgtype(message))) {
        case postern_ldap_res_search_entry: .entry
        case postern_ldap_res_search_reference: .reference
        case postern_ldap_res_intermediate: .intermediate
        default: .result
        }
    }

    // MARK: An entry

    /// The most values of an entry, so that no entry can fill the memory.
    static let mostValues = 100_000
    /// Entries smaller than this have fewer values, which needn't be counted.
    private static let uncounted = 2 * mostValues

    static var tooManyValues: LDAPError {
        LDAPError.search(
            LDAP_SIZELIMIT_EXCEEDED,
            "the server sent an entry with more than \(mostValues) values, which is Postern's limit; exclude the entry by exclude_filter, or "
                + "leave the attribute out of attributes")
    }

    /// The entry's distinguished name; empty if the message has none.
    var dn: String {
        guard let text = ldap_get_dn(connection.handle, message) else { return "" }
        defer { ldap_memfree(text) }
        return String(cString: text)
    }

    /// Calls the body with each attribute of the entry; the bytes are borrowed from the message.
    func forEachAttribute(
        _ body: (_ name: UnsafeBufferPointer<UInt8>, _ values: LDAPValues) -> Void
    ) throws(LDAPError) {
        var ber: OpaquePointer?
        var name = berval()
        guard ldap_get_dn_ber(connection.handle, message, &ber, &name) == LDAP_SUCCESS else {
            throw .malformed("an entry without a name")
        }
        defer { ber_free(ber, 0) }
        var size: ber_len_t = 0
        if ber_get_option(UnsafeMutableRawPointer(ber), LBER_OPT_BER_REMAINING_BYTES, &size) == LBER_OPT_SUCCESS,
            size >= Self.uncounted
        {
            try countValues()
        }
        while true {
            var attribute = berval()
            var values: UnsafeMutablePointer<berval>?
            let code = ldap_get_attribute_ber(connection.handle, message, ber, &attribute, &values)
            guard code == LDAP_SUCCESS else { throw .malformed("the attributes of an entry") }
            guard attribute.bv_val != nil else { return }
            body(attribute.bytes, LDAPValues(first: values))
            ldap_memfree(values)
        }
    }

    /// Throws an error for an entry with too many values, before anything is allocated for them.
    private func countValues() throws(LDAPError) {
        var ber: OpaquePointer?
        var content = berval()
        guard ldap_get_dn_ber(connection.handle, message, &ber, &content) == LDAP_SUCCESS else { return }
        defer { ber_free(ber, 0) }
        var count = 0
        while ber_skip_element(ber, &content) != ber_tag_t.max {
            // The name, then the set of values.
            var attribute = BERWalker(content.bytes)
            guard attribute.next() != nil, let values = attribute.next() else { continue }
            var walker = BERWalker(values)
            while walker.next() != nil {
                count += 1
                guard count <= Self.mostValues else { throw Self.tooManyValues }
            }
        }
    }

    /// The values of one attribute, as text.
    func texts(_ wanted: String) throws(LDAPError) -> [String] {
        try bytes(wanted).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The values of one attribute.
    func bytes(_ wanted: String) throws(LDAPError) -> [[UInt8]] {
        var found: [[UInt8]] = []
        let lowercased = Array(wanted.lowercased().utf8)
        try forEachAttribute { name, values in
            if name.equalsIgnoringCase(lowercased) { found += values.map(Array.init) }
        }
        return found
    }

    var entryControls: [LDAPControl] {
        var controls: UnsafeMutablePointer<UnsafeMutablePointer<CLDAP.LDAPControl>?>?
        guard ldap_get_entry_controls(connection.handle, message, &controls) == LDAP_SUCCESS else { return [] }
        return LDAPControl.consume(controls)
    }

    // MARK: A reference

    /// The URIs of a search reference (RFC 4511 section 4.5.3), all for the same entries.
    func references() throws(LDAPError) -> [String] {
        var list: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        guard ldap_parse_reference(connection.handle, message, &list, nil, 0) == LDAP_SUCCESS else {
            throw .malformed("a search reference")
        }
        guard let list else { return [] }
        defer { ber_memvfree(UnsafeMutableRawPointer(list).assumingMemoryBound(to: UnsafeMutableRawPointer?.self)) }
        var addresses: [String] = []
        var next = list
        while let text = next.pointee {
            addresses.append(String(cString: text))
            next = next.advanced(by: 1)
        }
        return addresses
    }

    // MARK: The end of a search

    /// The controls of a successful result; throws the error of any other result.
    func success(_ operation: LDAPError.Operation) throws(LDAPError) -> [LDAPControl] {
        var code: Int32 = 0
        var diagnostic: UnsafeMutablePointer<CChar>?
        var controls: UnsafeMutablePointer<UnsafeMutablePointer<CLDAP.LDAPControl>?>?
        let status = ldap_parse_result(connection.handle, message, &code, nil, &diagnostic, nil, &controls, 0)
        defer { ldap_memfree(diagnostic) }
        let list = LDAPControl.consume(controls)
        guard status == LDAP_SUCCESS else { throw .malformed("a result") }
        guard code == LDAP_SUCCESS else {
            throw .result(operation, code, diagnostic: diagnostic.map { String(cString: $0) } ?? "")
        }
        return list
    }

    // MARK: An intermediate response

    /// The Sync Info (RFC 4533) of the message; nil for another intermediate response.
    func syncInfo() throws(LDAPError) -> ContentSyncInfo? {
        var oid: UnsafeMutablePointer<CChar>?
        var value: UnsafeMutablePointer<berval>?
        guard ldap_parse_intermediate(connection.handle, message, &oid, &value, nil, 0) == LDAP_SUCCESS else {
            throw .malformed("an intermediate response")
        }
        defer {
            ldap_memfree(oid)
            ber_bvfree(value)
        }
        guard let oid, String(cString: oid) == LDAPControl.OID.syncInfo else { return nil }
        guard let info = ContentSyncInfo(value.map { Array($0.pointee.bytes) } ?? []) else {
            throw .malformed("a Sync Info message")
        }
        return info
    }
}

/// The values of an attribute, borrowed from their message.
struct LDAPValues: Sequence, IteratorProtocol {
    private var rest: UnsafeMutablePointer<berval>?

    init(first: UnsafeMutablePointer<berval>?) { rest = first }

    mutating func next() -> UnsafeBufferPointer<UInt8>? {
        guard let value = rest, value.pointee.bv_val != nil else { return nil }
        rest = value.advanced(by: 1)
        return value.pointee.bytes
    }
}

extension berval {
    var bytes: UnsafeBufferPointer<UInt8> {
        let raw = UnsafeRawBufferPointer(start: bv_val, count: bv_val == nil ? 0 : Int(clamping: bv_len))
        return raw.bindMemory(to: UInt8.self)
    }
}

extension LDAPControl {
    /// The controls of a list, which is freed.
    static func consume(_ list: UnsafeMutablePointer<UnsafeMutablePointer<CLDAP.LDAPControl>?>?) -> [LDAPControl] {
        guard let list else { return [] }
        defer { ldap_controls_free(list) }
        var controls: [LDAPControl] = []
        var next = list
        while let control = next.pointee {
            controls.append(
                LDAPControl(
                    oid: String(cString: control.pointee.ldctl_oid), isCritical: control.pointee.ldctl_iscritical != 0,
                    value: Array(control.pointee.ldctl_value.bytes)))
            next = next.advanced(by: 1)
        }
        return controls
    }
}
