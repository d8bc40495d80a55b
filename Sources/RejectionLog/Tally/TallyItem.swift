import System

/// The ids of the reasons that tallies distinguish; -1 for a reason that the database doesn't have.
struct TallyReasons {
    var unknown: Int64 = -1
    var relay: Int64 = -1
    var harvest: Int64 = -1
    var mta: Int64 = -1
    /// The reasons for which pairs are tallied: unknown, disabled, blocked, pattern.
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
    /// The value of a detail row for one kind.
    struct Item {
        var kind: TallyKind
        var value: UnsafeRawBufferPointer
        /// The hash of a peer; nil: none.
        var peer: UInt32?
        /// The hash of a client network; nil: none.
        var network: UInt32?
        /// The client's host name where the kind keeps it, else empty.
        var name: UnsafeRawBufferPointer
    }

    private static var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

    /// Calls `body` with the values of a row, one for each kind; the buffers are valid for the call.
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
            if reasons.personal.contains(reason), SenderAddress.mayBePerson(sender) {
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
            var reply = ReplyText.withoutAddresses(String(decoding: row.reply, as: UTF8.self))
            try reply.withUTF8 {
                try body(Item(kind: .reply, value: UnsafeRawBufferPointer($0), name: none))
            }
        }
    }

    /// The hash of a day, for the days of a pair.
    static func dayHash(_ day: Int64) -> UInt32 { UInt32(truncatingIfNeeded: max(0, day)) }

    /// Calls `body` with the bytes of the /24 or /64 of a stored client address; empty if the address is unknown.
    package static func withNetwork<R>(
        of client: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws -> R
    ) rethrows -> R {
        let address = IPAddress(stored: client)
        guard !address.isUnspecified else { return try body(none) }
        return try address.clientNetwork.withStored(body)
    }
}

/// Replies without their addresses, so that equal replies to different recipients are counted together.
enum ReplyText {
    /// The text with `…` in place of everything in angle or square brackets, of words with an `@` and of IP addresses;
    /// at most 200 characters.
    static func withoutAddresses(_ text: String) -> String {
        var kept = ""
        var closing: Character?
        for character in text {
            if let awaited = closing {
                guard character == awaited else { continue }
                closing = nil
            }
            kept.append(character)
            if character == "<" || character == "[" {
                closing = character == "<" ? ">" : "]"
                kept.append("…")
            }
        }
        let words = kept.split(separator: " ").map { $0.contains("@") || isNumeric($0) ? "…" : $0 }
        return String(words.joined(separator: " ").prefix(200))
    }

    /// True for an IP address, also within a URL: three dots between digits, or hexadecimal digits with two colons.
    private static func isNumeric(_ word: Substring) -> Bool {
        var run = 0
        var dots = 0
        for byte in word.utf8 {
            switch byte {
            case 0x30...0x39: run += 1
            case 0x2e where run > 0:
                dots += 1
                run = 0
            default: (run, dots) = (0, 0)
            }
            if dots == 3, run > 0 { return true }
        }
        return word.utf8.filter { $0 == 0x3a }.count >= 2
            && word.utf8.allSatisfy { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x66 || (0x30...0x3a).contains($0) }
    }
}
