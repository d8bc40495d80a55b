import GRDB
import System

/// The kinds of values by which rejections are tallied for each day (UTC); the raw value is that of the database.
package enum TallyKind: Int64, CaseIterable, Sendable {
    /// The recipient as the client gave it.
    case recipient = 0
    /// The reverse-path.
    case sender = 1
    /// The client's address: 4 or 16 bytes, or none for a client without an address.
    case client = 2
    /// The client's network: the bytes of a /24 or /64.
    case network = 3
    /// The HELO name.
    case helo = 4
    /// The MTA that asked.
    case host = 5
    /// The reply of the MTA where it rejected the recipient itself, without addresses.
    case reply = 6
    /// Sender, line feed, recipient: where the recipient doesn't exist, and the sender may be a person.
    case pair = 7

    /// How many values are kept of a day that is over: the most frequent ones. The others are in the counters only.
    var kept: Int {
        switch self {
        case .recipient: 2_000
        case .sender, .client, .network: 1_000
        case .helo: 500
        case .host, .reply: 200
        case .pair: 10_000
        }
    }

    /// How many values a day may have before it is over.
    static let openLimit = 200_000
    /// How many domains a value of a day has for one reason; further domains are counted as ``variousDomains``.
    static let domainLimit = 32
    static let variousDomains: Int64 = -1

    /// The number up to which different peers are counted exactly. Peers are the senders of a recipient, the unknown
    /// recipients that a network tried, and the days of a pair.
    package var peerLimit: Int {
        switch self {
        case .recipient: 16
        case .network: 128
        case .pair: 400
        case .sender, .client, .helo, .host, .reply: 0
        }
    }

    /// The number up to which the different client networks of a value are counted exactly.
    var networkLimit: Int {
        switch self {
        case .recipient, .pair: 8
        case .sender, .client, .network, .helo, .host, .reply: 0
        }
    }

    /// Whether the newest host name of the client is kept.
    var isNamed: Bool { self == .client || self == .network }
}

/// The ids of the reasons that tallies distinguish; -1 for a reason that the database doesn't have.
struct TallyReasons {
    let unknown, relay, harvest, mta: Int64
    /// The reasons for which pairs are tallied: unknown, disabled, blocked, pattern.
    let personal: Set<Int64>

    init(_ db: Database) throws {
        let ids = try db.reasonIDs()
        unknown = ids["unknown"] ?? -1
        relay = ids["relay"] ?? -1
        harvest = ids["harvest"] ?? -1
        mta = ids[RejectionLog.mtaReason] ?? -1
        personal = Set(["unknown", "disabled", "blocked", "pattern"].compactMap { ids[$0] })
    }
}

extension TallyKind {
    /// The value of a detail row for one kind.
    struct Item {
        var kind: TallyKind
        var value: UnsafeRawBufferPointer
        /// The hash of a peer, where the kind counts peers.
        var peer: UInt32?
        /// The hash of a client network, where the kind counts networks.
        var network: UInt32?
        /// The client's host name where the kind keeps it, else empty.
        var name = UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// Calls `body` with the values of a row, one for each kind; the buffers are valid for the call.
    ///
    /// - Parameter scratch: memory for values that are put together.
    static func forEachItem(
        of row: DetailRow, reasons: TallyReasons, scratch: inout [UInt8], _ body: (Item) throws -> Void
    ) rethrows {
        let reason = row.reason
        let (recipient, sender, client) = (row.recipient, row.sender, row.client)
        let judged = reason == reasons.unknown || reason == reasons.relay
        try withNetwork(of: client) { network in
            let networkHash = ByteHash.short(network)
            try body(
                Item(
                    kind: .recipient, value: recipient, peer: judged ? ByteHash.short(sender) : nil,
                    network: judged ? networkHash : nil))
            try body(Item(kind: .sender, value: sender))
            try body(Item(kind: .client, value: client, name: row.clientName))
            let triedRecipient = reason == reasons.unknown ? ByteHash.short(recipient) : nil
            try body(Item(kind: .network, value: network, peer: triedRecipient, name: row.clientName))
            try body(Item(kind: .helo, value: row.helo))
            try body(Item(kind: .host, value: row.mta))
            if reasons.personal.contains(reason), SenderAddress.mayBePerson(sender) {
                scratch.removeAll(keepingCapacity: true)
                scratch.append(contentsOf: sender)
                scratch.append(0x0a)
                scratch.append(contentsOf: recipient)
                let day = UInt32(truncatingIfNeeded: max(0, row.day))
                try scratch.withUnsafeBytes {
                    try body(Item(kind: .pair, value: $0, peer: day, network: networkHash))
                }
            }
        }
        if reason == reasons.mta {
            var reply = ReplyText.withoutAddresses(String(decoding: row.reply, as: UTF8.self))
            try reply.withUTF8 { try body(Item(kind: .reply, value: UnsafeRawBufferPointer($0))) }
        }
    }

    /// Calls `body` with the bytes of the /24 or /64 of a stored client address; empty without an address.
    package static func withNetwork<R>(
        of client: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws -> R
    ) rethrows -> R {
        try IPAddress(stored: client).clientNetwork.withStored(body)
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

    /// Whether a word has an IP address: three dots between digits (also in a URL), or two colons and hex digits.
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

/// What the form of a sender's address says about the sender.
package enum SenderAddress {
    /// Whether the sender may be a person: false for `<>` and for addresses that programs send from, such as bounces,
    /// lists, newsletters, and those with VERP, SRS and BATV tags.
    static func mayBePerson(_ address: UnsafeRawBufferPointer) -> Bool {
        guard let at = address.lastIndex(of: 0x40), at > 0, at < 65 else { return false }
        var digits = 0
        var local: [UInt8] = []
        local.reserveCapacity(at)
        for byte in address[..<at] {
            switch byte {
            case 0x30...0x39: digits += 1
            // "+" and "=" mark VERP, SRS and BATV tags. A person rarely sends from an address with a detail.
            case 0x2b, 0x3d: return false
            default: break
            }
            local.append(byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte)
        }
        if local.first == 0x3c { local.removeFirst() }
        if digits > 4 || local.isEmpty { return false }
        return !local.withUnsafeBytes { local in
            programs.contains { word in
                local.count >= word.count && UnsafeRawBufferPointer(rebasing: local[..<word.count]).elementsEqual(word)
            } || endings.contains { local.count > $0.count && local.suffix($0.count).elementsEqual($0) }
        }
    }

    private static let programs: [[UInt8]] = [
        "bounce", "noreply", "no-reply", "no_reply", "donotreply", "do-not-reply", "newsletter", "news@",
        "mailer-daemon", "postmaster", "owner-", "mailing", "notification", "notify", "alert", "return", "root",
        "www-data", "apache", "nobody", "daemon", "srs0", "srs1", "prvs", "msprvs",
    ].map { Array($0.utf8) }
    private static let endings: [[UInt8]] = [
        "-bounces", "-bounce", "-request", "-owner", "-noreply", "-return", "-errors",
    ].map { Array($0.utf8) }

    /// The sender with `*` in place of a tag that changes from message to message:
    /// `bounces+user=example.org@lists.example` becomes `bounces+*@lists.example`, `prvs=1234abcdef=joe@a.example`
    /// `joe@a.example`, `SRS0=…=b.example=joe@c.example` `SRS0=*@c.example`. Other senders stay unchanged.
    package static func folded(_ address: String) -> String {
        guard let at = address.lastIndex(of: "@") else { return address }
        let (local, domain) = (address[..<at], address[at...])
        let lower = local.lowercased()
        for tag in ["prvs=", "msprvs1=", "btv1=="] where lower.hasPrefix(tag) {
            // BATV: the value of the tag has no "="; the sender follows it.
            let rest = local.dropFirst(tag.count).drop { $0 != "=" }.drop { $0 == "=" }
            return rest.isEmpty ? "\(local.prefix(tag.count))*\(domain)" : folded("\(rest)\(domain)")
        }
        for tag in ["srs0", "srs1"] where lower.hasPrefix(tag) && lower.count > 5 {
            let mark = local[local.index(local.startIndex, offsetBy: 4)]
            if mark == "=" || mark == "+" || mark == "-" { return "\(local.prefix(4))\(mark)*\(domain)" }
        }
        // VERP: the part after the first + or - or =, if it is another address or a number.
        if let equals = local.lastIndex(of: "="), equals > local.startIndex {
            if let mark = local[..<equals].firstIndex(where: { $0 == "+" }) { return "\(local[...mark])*\(domain)" }
            if let mark = local[..<equals].lastIndex(where: { $0 == "-" }) { return "\(local[...mark])*\(domain)" }
            return "*\(domain)"
        }
        if let mark = local.firstIndex(of: "+"), local[mark...].count > 1 { return "\(local[...mark])*\(domain)" }
        if let mark = local.firstIndex(of: "-") {
            let tail = local[local.index(after: mark)...]
            if tail.utf8.count >= 4, tail.utf8.filter({ (0x30...0x39).contains($0) }).count * 2 >= tail.utf8.count {
                return "\(local[...mark])*\(domain)"
            }
        }
        return address
    }
}
