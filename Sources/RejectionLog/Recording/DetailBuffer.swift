import System

/// Detail records packed one after another into memory of its own; appending is a handful of copies and never allocates.
/// A handle: whoever holds the last one calls ``deallocate()``.
///
/// A record, in host byte order and without alignment: length of it all (4), time (8), domain slot (4), reason (1),
/// flags (1), address (16), eight text lengths (2 each), the texts in the order of ``Field``.
struct DetailBuffer {
    /// The texts of a record, in order.
    enum Field: Int, CaseIterable {
        case recipient, domainName, sender, clientName, helo, session, mta, reply

        /// The most octets that are kept; RFC 5321 4.5.3.1 allows less for all that it limits.
        var limit: Int {
            switch self {
            case .recipient, .sender, .reply: 512
            case .domainName, .clientName, .helo: 255
            case .session, .mta: 64
            }
        }
    }

    static let fieldCount = 8
    static let headerSize = 4 + 8 + 4 + 1 + 1 + 16 + 2 * fieldCount

    private let base: UnsafeMutableRawPointer
    let capacity: Int
    private(set) var used = 0

    init(capacity: Int) {
        base = .allocate(byteCount: capacity, alignment: 16)
        self.capacity = capacity
    }

    func deallocate() {
        base.deallocate()
    }

    mutating func removeAll() {
        used = 0
    }

    /// False, and nothing changed, if the record doesn't fit.
    mutating func append(_ event: borrowing LogEvent) -> Bool {
        let recipient = Self.cut(event.recipient, .recipient)
        let domainName = event.domain == .foreign ? Self.cut(event.domainName, .domainName) : 0
        let sender = Self.cut(event.sender, .sender)
        let clientName = Self.cut(event.clientName, .clientName)
        let helo = Self.cut(event.helo, .helo)
        let session = Self.cut(event.session, .session)
        let mta = Self.cut(event.mta, .mta)
        let reply = Self.cut(event.reply, .reply)
        let texts = recipient &+ domainName &+ sender &+ clientName &+ helo &+ session &+ mta &+ reply
        let total = Self.headerSize &+ texts
        guard total <= capacity &- used else { return false }

        var flags = event.outcome.rawValue
        if event.observed { flags |= 4 }
        if event.authenticated { flags |= 8 }
        var place = base + used
        Self.put(UInt32(truncatingIfNeeded: total), &place)
        Self.put(event.time, &place)
        Self.put(event.domain.index, &place)
        Self.put(event.reason.index, &place)
        Self.put(flags, &place)
        Self.put(event.client.high, &place)
        Self.put(event.client.low, &place)
        Self.put(UInt16(truncatingIfNeeded: recipient), &place)
        Self.put(UInt16(truncatingIfNeeded: domainName), &place)
        Self.put(UInt16(truncatingIfNeeded: sender), &place)
        Self.put(UInt16(truncatingIfNeeded: clientName), &place)
        Self.put(UInt16(truncatingIfNeeded: helo), &place)
        Self.put(UInt16(truncatingIfNeeded: session), &place)
        Self.put(UInt16(truncatingIfNeeded: mta), &place)
        Self.put(UInt16(truncatingIfNeeded: reply), &place)
        Self.put(event.recipient, recipient, &place)
        Self.put(event.domainName, domainName, &place)
        Self.put(event.sender, sender, &place)
        Self.put(event.clientName, clientName, &place)
        Self.put(event.helo, helo, &place)
        Self.put(event.session, session, &place)
        Self.put(event.mta, mta, &place)
        Self.put(event.reply, reply, &place)
        used &+= total
        return true
    }

    /// The records in the order of their coming; each is valid for the call of `body` only.
    func forEach(_ body: (DetailRecord) throws -> Void) rethrows {
        var offset = 0
        while offset < used {
            let record = DetailRecord(base + offset)
            try body(record)
            offset &+= record.size
        }
    }

    /// How many octets of the text are kept: all up to the limit, else whole UTF-8 characters.
    private static func cut(_ text: LogEvent.Bytes, _ field: Field) -> Int {
        guard text.count > field.limit else { return text.count }
        var end = field.limit
        // At most three continuation bytes belong to one character; more is no UTF-8, and then any cut will do.
        while end > field.limit - 4, text[end] & 0xC0 == 0x80 { end &-= 1 }
        return text[end] & 0xC0 == 0x80 ? field.limit : end
    }

    private static func put<T: BitwiseCopyable>(_ value: T, _ place: inout UnsafeMutableRawPointer) {
        place.storeBytes(of: value, as: T.self)
        place += MemoryLayout<T>.size
    }

    private static func put(_ text: LogEvent.Bytes, _ count: Int, _ place: inout UnsafeMutableRawPointer) {
        guard count > 0, let start = text.baseAddress else { return }
        place.copyMemory(from: start, byteCount: count)
        place += count
    }
}

// The memory has one user at a time: a stripe under its lock, or the writer thread after the two have changed buffers.
extension DetailBuffer: @unchecked Sendable {}

/// One packed record of a ``DetailBuffer``, read in place.
struct DetailRecord {
    private let base: UnsafeRawPointer

    init(_ base: UnsafeMutableRawPointer) {
        self.base = UnsafeRawPointer(base)
    }

    var size: Int { Int(base.loadUnaligned(as: UInt32.self)) }
    var time: Int64 { base.loadUnaligned(fromByteOffset: 4, as: Int64.self) }
    var slot: UInt32 { base.loadUnaligned(fromByteOffset: 12, as: UInt32.self) }
    var reason: UInt8 { base.load(fromByteOffset: 16, as: UInt8.self) }
    var outcome: Outcome { Outcome(rawValue: flags & 3) ?? .refused }
    var observed: Bool { flags & 4 != 0 }
    var authenticated: Bool { flags & 8 != 0 }
    var client: IPAddress {
        IPAddress(
            high: base.loadUnaligned(fromByteOffset: 18, as: UInt64.self),
            low: base.loadUnaligned(fromByteOffset: 26, as: UInt64.self))
    }

    /// The texts in the order of ``DetailBuffer/Field``; valid as long as the buffer isn't reused.
    func forEachText(_ body: (DetailBuffer.Field, UnsafeRawBufferPointer) throws -> Void) rethrows {
        var place = base + DetailBuffer.headerSize
        for field in DetailBuffer.Field.allCases {
            let count = length(field)
            try body(field, UnsafeRawBufferPointer(start: place, count: count))
            place += count
        }
    }

    func text(_ wanted: DetailBuffer.Field) -> UnsafeRawBufferPointer {
        var place = base + DetailBuffer.headerSize
        for field in DetailBuffer.Field.allCases {
            if field == wanted { break }
            place += length(field)
        }
        return UnsafeRawBufferPointer(start: place, count: length(wanted))
    }

    private var flags: UInt8 { base.load(fromByteOffset: 17, as: UInt8.self) }

    private func length(_ field: DetailBuffer.Field) -> Int {
        Int(base.loadUnaligned(fromByteOffset: 34 + 2 * field.rawValue, as: UInt16.self))
    }
}

/// Detail rows that the writer has just taken over, whether or not it can write them, for ``RejectionLog/Options/stored``; valid for the call only.
public struct StoredRows {
    let buffers: [DetailBuffer]
    let domains: [String]
    let reasons: [String]
    /// How many rows were thinned out since the last call, and are therefore not among these.
    public let thinned: Int

    /// The first rows of reasons that are wanted, in the order of time, and how many more there are of these.
    ///
    /// The id of each is 0. What isn't asked for costs next to nothing.
    public func entries(limit: Int, without unwanted: Set<String> = []) -> (entries: [LogEntry], left: Int) {
        var entries: [LogEntry] = []
        var left = 0
        for buffer in buffers {
            buffer.forEach { record in
                let reason = Int(record.reason) < reasons.count ? reasons[Int(record.reason)] : "other"
                if unwanted.contains(reason) { return }
                if entries.count < limit {
                    entries.append(entry(record, reason))
                } else {
                    left &+= 1
                }
            }
        }
        // Threads spread to several buffers.
        entries.sort { $0.time < $1.time }
        return (entries, left)
    }

    private func entry(_ record: DetailRecord, _ reason: String) -> LogEntry {
        func text(_ field: DetailBuffer.Field) -> String { StoredText.string(record.text(field)) }
        let isKnown = record.slot > 0 && Int(record.slot) < domains.count
        return LogEntry(
            id: 0, time: Timestamp.date(milliseconds: record.time), outcome: record.outcome, observed: record.observed,
            reason: reason, recipient: text(.recipient),
            domain: isKnown ? domains[Int(record.slot)] : text(.domainName), sender: text(.sender),
            client: record.client.clientText, clientName: text(.clientName), helo: text(.helo),
            session: text(.session), authenticated: record.authenticated, mta: text(.mta), reply: text(.reply))
    }
}
