import TestSupport

/// What an MTA says in a connection, changed here and there: packets that the filter takes for an MTA's as long as it can.
struct MutatedConversation {
    private var random: SeededGenerator

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    private static let recipients = [
        "<anna@example.com>", "<nobody@example.com>", "<someone@example.org>", "<postmaster>", "<>", "anna@example.com",
        "<anna+x@example.com>", "<a%b@example.com>", "<\"a b\"@example.com>", "<@r.example:anna@example.com>",
        "<jörg@bücher.example>", "<anna@xn--bcher-kva.example>", "<SRS0=HHH=TT=example.info=x@example.com>",
        "<prvs=1234abcdef=anna@example.com>", "<lst-12@example.net>", "<anna@[192.0.2.1]>", "<anna@[IPv6:::1]>",
        "<(c)anna(d)@example.com>", "<\\a@example.com>", "<anna@example.com.>",
    ]
    private static let names = [
        "j", "i", "{auth_authen}", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}", "{mail_addr}", "{client_addr}", "_",
        "",
    ]
    private static let values = ["mx.example", "error", "5.1.1", "4.7.1", "smtp", "550 5.1.1 no", "user", "", "4F2A"]

    private mutating func one<Element>(of elements: [Element]) -> Element {
        elements[Int.random(in: elements.indices, using: &random)]
    }

    private mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    private mutating func macros(_ stage: Character) -> [UInt8] {
        let count = Int.random(in: 0...5, using: &random)
        let strings = (0..<count).flatMap { _ in [one(of: Self.names), one(of: Self.values)] }
        return MTAConnection.packet("D", [stage.asciiValue ?? 0] + MTAConnection.strings(strings))
    }

    private mutating func connect() -> [UInt8] {
        let (family, address) = one(
            of: [
                ("4", "192.0.2.\(Int.random(in: 1...254, using: &random))"), ("6", "2001:db8::7"),
                ("6", "IPv6:2001:db8::7"),
                ("L", "/var/run/x"), ("U", ""), ("4", "localhost"), ("6", "::ffff:192.0.2.1"), ("4", "127.0.0.1"),
            ] as [(Character, String)])
        return MTAConnection.packet(
            "C", MTAConnection.connectData(one(of: ["h.example", "[192.0.2.1]", ""]), family, 25, address))
    }

    private mutating func recipient() -> [UInt8] {
        var path = Array(one(of: Self.recipients).utf8)
        for _ in 0..<Int.random(in: 0...3, using: &random) where !path.isEmpty {
            let place = Int.random(in: path.indices, using: &random)
            switch Int.random(in: 0...3, using: &random) {
            case 0: path[place] = UInt8.random(in: 0...255, using: &random)
            case 1: path.remove(at: place)
            case 2: path.insert(contentsOf: path[place...].prefix(20), at: place)
            default: path.insert(one(of: Array("<>@\"\\().,:%!+= \t\r\n".utf8)), at: place)
            }
        }
        return macros("R")
            + MTAConnection.packet("R", path + [0] + MTAConnection.strings(one(of: [[], ["NOTIFY=NEVER"]])))
    }

    /// The packets of one connection, and whether they are as an MTA would send them.
    mutating func packets() -> [[UInt8]] {
        var packets = [
            MTAConnection.negotiation(
                version: one(of: [6, 6, 6, 2, 0, 99]), actions: one(of: [0x1ff, 0x1ff, 0, .max]),
                steps: one(of: [0x1f_ffff, 0x1f_ffff, 0x7f, 0, .max])), macros("C"), connect(),
        ]
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            packets.append(MTAConnection.packet("H", Array("helo.example\0".utf8)))
            packets.append(
                macros("M")
                    + MTAConnection.packet(
                        "M", MTAConnection.strings([one(of: ["<>", "<s@example.info>", ""]), "SIZE=10", "SMTPUTF8"])))
            for _ in 0..<Int.random(in: 0...6, using: &random) { packets.append(recipient()) }
            switch Int.random(in: 0...5, using: &random) {
            case 0: packets.append(MTAConnection.packet("A"))
            case 1: packets.append(MTAConnection.packet("T"))
            case 2: packets.append(MTAConnection.packet("L", MTAConnection.strings(["Subject", "x"])))
            case 3: packets.append(MTAConnection.packet("E", bytes(40)))
            case 4: packets += [MTAConnection.packet("K"), macros("C"), connect()]
            default: packets.append(MTAConnection.packet("U", Array("XYZZY\0".utf8)))
            }
        }
        packets.append(MTAConnection.packet("Q"))
        return packets
    }

    /// The bytes of one connection with some of them changed.
    mutating func mutated() -> [UInt8] {
        var packets = packets()
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            let place = Int.random(in: packets.indices, using: &random)
            switch Int.random(in: 0...6, using: &random) {
            case 0: packets.remove(at: place)
            case 1: packets.insert(packets[place], at: place)
            case 2: packets.swapAt(place, Int.random(in: packets.indices, using: &random))
            case 3:
                packets[place] = Array(packets[place].prefix(Int.random(in: 0...packets[place].count, using: &random)))
            case 4: packets[place] += bytes(Int.random(in: 1...8, using: &random))
            case 5: packets.insert(MTAConnection.packet(one(of: Array("ABCDEHKLMNOQRTUZ\u{0}")), bytes(30)), at: place)
            default:
                for _ in 0..<Int.random(in: 1...4, using: &random) where !packets[place].isEmpty {
                    // A length of megabytes would only have the filter wait for them.
                    let low = min(2, packets[place].count - 1)
                    let byte = Int.random(in: low..<packets[place].count, using: &random)
                    packets[place][byte] = UInt8.random(in: 0...255, using: &random)
                }
            }
            if packets.isEmpty { return [] }
        }
        return Array(packets.joined())
    }

    /// Whether the MTA waits for answers, or is gone before there are any.
    mutating func isPatient() -> Bool { Bool.random(using: &random) }
}
