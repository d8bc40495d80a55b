import System

/// Detail records, one after another in memory of its own. Appending copies the texts and allocates nothing. A handle:
/// the last owner calls ``deallocate()``. ``LogWriter`` decides when rows are thinned out.
///
/// A record has, in host byte order and without alignment: its length (4 bytes), time (8), domain slot (4), reason slot
/// (1), flags (1), client's address (16), eight text lengths (2 each), and the texts in the order of ``Field``.
struct DetailBuffer {
    /// The texts of a record, in their order.
    enum Field: Int, CaseIterable {
        case recipient, domainName, sender, clientName, helo, queueID, mta, reply

        /// The most bytes that are kept of a text; at least what RFC 5321 section 4.5.3.1 allows.
        var limit: Int {
            switch self {
            case .recipient, .sender, .reply: 512
            case .domainName, .clientName, .helo: 255
            case .queueID, .mta: 64
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

    func deallocate() { base.deallocate() }

    mutating func removeAll() { used = 0 }

    /// Appends the event's record; returns false, and changes nothing, if the record doesn't fit.
    mutating func append(_ event: borrowing RecipientEvent) -> Bool {
        let recipient = Self.length(of: event.recipient, .recipient)
        let domainName = event.domain == .foreign ? Self.length(of: event.domainName, .domainName) : 0
        let sender = Self.length(of: event.sender, .sender)
        let clientName = Self.length(of: event.clientName, .clientName)
        let helo = Self.length(of: event.helo, .helo)
        let queueID = Self.length(of: event.queueID, .queueID)
        let mta = Self.length(of: event.mta, .mta)
        let reply = Self.length(of: event.reply, .reply)
        let texts = recipient &+ domainName &+ sender &+ clientName &+ helo &+ queueID &+ mta &+ reply
        let total = Self.headerSize &+ texts
        guard total <= capacity &- used else { return false }

        var flags = event.outcome.rawValue
        if event.observed { flags |= 4 }
        if event.authenticated { flags |= 8 }
        var place = base + used
        Self.append(UInt32(truncatingIfNeeded: total), to: &place)
        Self.append(event.time, to: &place)
        Self.append(event.domain.index, to: &place)
        Self.append(event.reason.index, to: &place)
        Self.append(flags, to: &place)
        Self.append(event.client.high, to: &place)
        Self.append(event.client.low, to: &place)
        Self.append(UInt16(truncatingIfNeeded: recipient), to: &place)
        Self.append(UInt16(truncatingIfNeeded: domainName), to: &place)
        Self.append(UInt16(truncatingIfNeeded: sender), to: &place)
        Self.append(UInt16(truncatingIfNeeded: clientName), to: &place)
        Self.append(UInt16(truncatingIfNeeded: helo), to: &place)
        Self.append(UInt16(truncatingIfNeeded: queueID), to: &place)
        Self.append(UInt16(truncatingIfNeeded: mta), to: &place)
        Self.append(UInt16(truncatingIfNeeded: reply), to: &place)
        Self.append(event.recipient, recipient, to: &place)
        Self.append(event.domainName, domainName, to: &place)
        Self.append(event.sender, sender, to: &place)
        Self.append(event.clientName, clientName, to: &place)
        Self.append(event.helo, helo, to: &place)
        Self.append(event.queueID, queueID, to: &place)
        Self.append(event.mta, mta, to: &place)
        Self.append(event.reply, reply, to: &place)
        used &+= total
        return true
    }

    /// Calls `body` with the records in the order in which they were appended. Each is valid for the call only.
    func forEach(_ body: (DetailRecord) throws -> Void) rethrows {
        var offset = 0
        while offset < used {
            let record = DetailRecord(base + offset)
            try body(record)
            offset &+= record.size
        }
    }

    /// How many bytes of the text are kept: all up to the limit, else as many whole UTF-8 characters as fit.
    private static func length(of text: RecipientEvent.Bytes, _ field: Field) -> Int {
        guard text.count > field.limit else { return text.count }
        var end = field.limit
        // A character has at most three continuation bytes. Text with more isn't UTF-8, and is cut at the limit.
        while end > field.limit - 4, text[end] & 0xC0 == 0x80 { end &-= 1 }
        return text[end] & 0xC0 == 0x80 ? field.limit : end
    }

    private static func append<T: BitwiseCopyable>(_ value: T, to place: inout UnsafeMutableRawPointer) {
        place.storeBytes(of: value, as: T.self)
        place += MemoryLayout<T>.size
    }

    private static func append(_ text: RecipientEvent.Bytes, _ count: Int, to place: inout UnsafeMutableRawPointer) {
        guard count > 0, let start = text.baseAddress else { return }
        place.copyMemory(from: start, byteCount: count)
        place += count
    }
}

// One thread at a time uses the memory: a session's under the stripe's lock, or the writer's after it has exchanged
// the buffers.
extension DetailBuffer: @unchecked Sendable {}

/// A record of a ``DetailBuffer``, read in place.
struct DetailRecord {
    private let base: UnsafeRawPointer

    init(_ base: UnsafeMutableRawPointer) { self.base = UnsafeRawPointer(base) }

    var size: Int { Int(base.loadUnaligned(as: UInt32.self)) }
    var time: Int64 { base.loadUnaligned(fromByteOffset: 4, as: Int64.self) }
    var slot: UInt32 { base.loadUnaligned(fromByteOffset: 12, as: UInt32.self) }
    var reason: UInt8 { base.load(fromByteOffset: 16, as: UInt8.self) }
    var outcome: Outcome { Outcome(rawValue: flags & 3) ?? .rejected }
    var observed: Bool { flags & 4 != 0 }
    var authenticated: Bool { flags & 8 != 0 }
    var client: IPAddress {
        IPAddress(
            high: base.loadUnaligned(fromByteOffset: 18, as: UInt64.self),
            low: base.loadUnaligned(fromByteOffset: 26, as: UInt64.self))
    }

    /// Calls `body` with the texts in the order of ``DetailBuffer/Field``.
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

/// The detail rows that the writer has just taken from the queue, whether or not it can write them; for
/// ``RejectionLog/Options/received``. Valid for the call only.
public struct ReceivedRows {
    let buffers: [DetailBuffer]
    let domains: [String]
    let reasons: [String]
    /// How many rows were thinned out since the last call; these rows are missing here.
    public let thinned: Int

    /// The first rows in the order of time, and how many more rows there are. The entries have the id 0.
    ///
    /// - Parameter unwanted: the reasons whose rows are left out and not counted.
    public func entries(limit: Int, without unwanted: Set<String> = []) -> (entries: [LogEntry], more: Int) {
        var entries: [LogEntry] = []
        var more = 0
        for buffer in buffers {
            buffer.forEach { record in
                let reason = Int(record.reason) < reasons.count ? reasons[Int(record.reason)] : "other"
                if unwanted.contains(reason) { return }
                if entries.count < limit { entries.append(entry(record, reason: reason)) } else { more &+= 1 }
            }
        }
        // Only the rows of the same buffer are in order.
        entries.sort { $0.time < $1.time }
        return (entries, more)
    }

    private func entry(_ record: DetailRecord, reason: String) -> LogEntry {
        func text(_ field: DetailBuffer.Field) -> String { StoredText.string(record.text(field)) }
        let isKnown = record.slot > 0 && Int(record.slot) < domains.count
        return LogEntry(
            id: 0, time: Timestamp.date(milliseconds: record.time), outcome: record.outcome, observed: record.observed,
            reason: reason, recipient: text(.recipient),
            domain: isKnown ? domains[Int(record.slot)] : text(.domainName), sender: text(.sender),
            client: record.client.clientText, clientName: text(.clientName), helo: text(.helo),
            session: text(.queueID), authenticated: record.authenticated, mta: text(.mta), reply: text(.reply))
    }
}
