/// A control of a request or a response (RFC 4511 section 4.1.11).
struct LDAPControl: Equatable {
    var oid: String
    var isCritical = true
    var value: [UInt8]?

    enum OID {
        /// RFC 2696.
        static let pagedResults = "1.2.840.113556.1.4.319"
        /// RFC 4533.
        static let syncRequest = "1.3.6.1.4.1.4203.1.9.1.1"
        static let syncState = "1.3.6.1.4.1.4203.1.9.1.2"
        static let syncDone = "1.3.6.1.4.1.4203.1.9.1.3"
        static let syncInfo = "1.3.6.1.4.1.4203.1.9.1.4"
        /// MS-ADTS section 3.1.1.3.4.1.
        static let dirSync = "1.2.840.113556.1.4.841"
        static let notification = "1.2.840.113556.1.4.528"
        static let showDeleted = "1.2.840.113556.1.4.417"
        static let domainScope = "1.2.840.113556.1.4.1339"
    }

    /// Asks for a page with at most this many entries; the cookie of the first page is empty.
    static func paged(size: Int32, cookie: [UInt8]) -> LDAPControl {
        LDAPControl(oid: OID.pagedResults, value: BER.sequence(BER.integer(size), BER.octets(cookie)))
    }

    /// Asks for the changes since a cookie, or for the whole content, and then (`persists`) for every change as it
    /// comes.
    static func sync(cookie: [UInt8]?, persists: Bool) -> LDAPControl {
        let mode = BER.enumerated(persists ? 3 : 1)
        return LDAPControl(
            oid: OID.syncRequest, value: cookie.map { BER.sequence(mode, BER.octets($0)) } ?? BER.sequence(mode))
    }

    /// Asks for the changes since a cookie.
    ///
    /// - Parameter objectSecurity: whether the server sends only what the account may read, for which it needs no right
    ///   to replicate.
    static func dirSync(cookie: [UInt8], objectSecurity: Bool) -> LDAPControl {
        let flags = BER.integer(objectSecurity ? 1 : 0)
        return LDAPControl(
            oid: OID.dirSync, value: BER.sequence(flags, BER.integer(1 << 20), BER.octets(cookie)))
    }

    /// Asks for a message at every change.
    static let notification = LDAPControl(oid: OID.notification)
    /// Asks for tombstones, too.
    static let showDeleted = LDAPControl(oid: OID.showDeleted)
    /// Asks for no references to other servers. Not critical, as only Active Directory knows it.
    static let domainScope = LDAPControl(oid: OID.domainScope, isCritical: false)
}

extension [LDAPControl] {
    func value(of oid: String) -> [UInt8]? { first { $0.oid == oid }?.value }

    /// The cookie for the next page; empty after the last page, nil if the server doesn't send pages.
    var nextPage: [UInt8]? {
        guard let value = value(of: LDAPControl.OID.pagedResults) else { return nil }
        var reader = BERReader(value)
        guard var content = reader.enter(BER.sequence), content.number(BER.integer) != nil else { return nil }
        return content.optionalOctets()
    }

    /// The response to DirSync: whether more changes are waiting, and the cookie for the next request.
    var dirSync: (hasMore: Bool, cookie: [UInt8])? {
        guard let value = value(of: LDAPControl.OID.dirSync) else { return nil }
        var reader = BERReader(value)
        guard var content = reader.enter(BER.sequence), let more = content.number(BER.integer),
            content.number(BER.integer) != nil, let cookie = content.optionalOctets()
        else { return nil }
        return (more != 0, cookie)
    }

    /// The Sync State control of an entry.
    var syncState: ContentSyncState? { value(of: LDAPControl.OID.syncState).flatMap(ContentSyncState.init) }

    /// The Sync Done control of a result: its cookie, and whether the server has named each deleted entry (it would
    /// otherwise name the entries that still exist).
    var syncDone: (cookie: [UInt8]?, refreshDeletes: Bool)? {
        guard let value = value(of: LDAPControl.OID.syncDone) else { return nil }
        var reader = BERReader(value)
        guard var content = reader.enter(BER.sequence) else { return nil }
        let cookie = content.optionalOctets()
        guard let deletes = content.boolean(default: false) else { return nil }
        return (cookie, deletes)
    }
}

/// The value of the Sync State control of an entry (RFC 4533 section 2.3).
struct ContentSyncState: Equatable {
    enum State: Int32 {
        case present = 0
        case add = 1
        case modify = 2
        case delete = 3
    }

    var state: State
    var uuid: [UInt8]
    var cookie: [UInt8]?

    init?(_ value: [UInt8]) {
        var reader = BERReader(value)
        guard var content = reader.enter(BER.sequence), let number = content.number(BER.enumerated),
            let state = State(rawValue: number), let uuid = content.optionalOctets(), uuid.count == 16
        else { return nil }
        self.state = state
        self.uuid = uuid
        cookie = content.optionalOctets()
    }
}

/// The value of a Sync Info message (RFC 4533 section 2.5).
enum ContentSyncInfo: Equatable {
    case newCookie([UInt8])
    /// The phase in which the server names each deleted entry has ended; `isDone`: so has the refresh.
    case refreshDelete(cookie: [UInt8]?, isDone: Bool)
    /// The phase in which the server names the entries that still exist has ended; `isDone`: so has the refresh.
    case refreshPresent(cookie: [UInt8]?, isDone: Bool)
    /// Entries that were deleted (`deletes`), or that still exist unchanged.
    case idSet(cookie: [UInt8]?, deletes: Bool, uuids: [[UInt8]])

    init?(_ value: [UInt8]) {
        var reader = BERReader(value)
        switch reader.tag {
        case 0x80:
            guard let cookie = reader.read(0x80) else { return nil }
            self = .newCookie(Array(cookie))
        case 0xa1, 0xa2:
            guard let tag = reader.tag, var content = reader.enter(tag) else { return nil }
            let cookie = content.optionalOctets()
            guard let isDone = content.boolean(default: true) else { return nil }
            self =
                tag == 0xa1
                ? .refreshDelete(cookie: cookie, isDone: isDone) : .refreshPresent(cookie: cookie, isDone: isDone)
        case 0xa3:
            guard var content = reader.enter(0xa3) else { return nil }
            let cookie = content.optionalOctets()
            guard let deletes = content.boolean(default: false), var set = content.enter(BER.set) else { return nil }
            var uuids: [[UInt8]] = []
            while !set.isAtEnd {
                guard let uuid = set.optionalOctets(), uuid.count == 16 else { return nil }
                uuids.append(uuid)
            }
            self = .idSet(cookie: cookie, deletes: deletes, uuids: uuids)
        default: return nil
        }
    }
}

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

/// Reads elements one after the other; malformed input gives nil and never crashes.
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

/// Reads elements of any tag without copying them; ends at malformed input.
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
