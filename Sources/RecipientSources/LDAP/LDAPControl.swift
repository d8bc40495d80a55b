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
