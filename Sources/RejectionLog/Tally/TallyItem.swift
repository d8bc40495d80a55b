import System

/// Which reasons have a meaning of their own in tallies, by their ids in the database; -1 for those that it doesn't know.
struct TallyReasons {
    var unknown: Int64 = -1
    var relay: Int64 = -1
    var harvest: Int64 = -1
    var mta: Int64 = -1
    /// Those of which a pair of sender and recipient may be people: unknown, disabled, blocked, pattern.
    var personal: Set<Int64> = []

    init(names: [String: Int64]) {
        unknown = names["unknown"] ?? -1
        relay = names["relay"] ?? -1
        harvest = names["harvest"] ?? -1
        mta = names[RejectionLog.mtaReason] ?? -1
        personal = Set(["unknown", "disabled", "blocked", "pattern"].compactMap { names[$0] })
    }
}

extension TallyKind {
    /// What a detail row counts for one kind.
    struct Item {
        var kind: TallyKind
        var value: UnsafeRawBufferPointer
        /// A hash for the sketch of peers; nil: none.
        var peer: UInt32?
        /// A hash for the sketch of networks; nil: none.
        var network: UInt32?
        /// The client's name where the kind keeps one, else empty.
        var name: UnsafeRawBufferPointer
    }

    private static var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

    /// Gives every value that a row counts for; the buffers are valid for the call.
    static func forEachItem(
        _ row: DetailRow, _ reasons: TallyReasons, _ scratch: inout [UInt8], _ body: (Item) throws -> Void
    ) rethrows {
        let reason = row.reason
        let (recipient, sender, client) = (row.recipient, row.sender, row.client)
        let judged = reason == reasons.unknown || reason == reasons.relay
        try withNetwork(of: client) { network in
            let networkHash = ByteHash.short(network)
            try body(
                Item(
                    kind: .recipient, value: recipient, peer: judged ? ByteHash.short(sender) : nil,
                    network: judged ? networkHash : nil, name: none))
            try body(Item(kind: .sender, value: sender, name: none))
            try body(Item(kind: .client, value: client, name: row.clientName))
            try body(
                Item(
                    kind: .network, value: network,
                    peer: reason == reasons.unknown ? ByteHash.short(recipient) : nil, name: row.clientName))
            try body(Item(kind: .helo, value: row.helo, name: none))
            try body(Item(kind: .host, value: row.mta, name: none))
            if reasons.personal.contains(reason), SenderForm.mayBePerson(sender) {
                scratch.removeAll(keepingCapacity: true)
                scratch.append(contentsOf: sender)
                scratch.append(0x0a)
                scratch.append(contentsOf: recipient)
                try scratch.withUnsafeBytes {
                    try body(Item(kind: .pair, value: $0, peer: dayHash(row.day), network: networkHash, name: none))
                }
            }
        }
        if reason == reasons.mta {
            var reply = ReplyForm.normalised(String(decoding: row.reply, as: UTF8.self))
            try reply.withUTF8 {
                try body(Item(kind: .reply, value: UnsafeRawBufferPointer($0), name: none))
            }
        }
    }

    /// A day as a member of the sketch of a pair's days.
    static func dayHash(_ day: Int64) -> UInt32 { UInt32(truncatingIfNeeded: max(0, day)) }

    /// The octets of the /24 or /64 that a stored client address is in; empty if it is unknown.
    static func withNetwork<R>(
        of client: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws -> R
    ) rethrows -> R {
        let address = IPAddress(stored: client)
        guard !address.isUnspecified else { return try body(none) }
        return try address.clientNetwork.withStored(body)
    }
}
