import Glibc

/// The MTA's side of the milter protocol on a TCP connection, as far as questions about recipients need it.
final class MilterConnection {
    /// Steps of the protocol that the filter may choose not to answer.
    private enum Unanswered {
        static let connect: UInt32 = 0x1000
        static let hello: UInt32 = 0x2000
        static let mail: UInt32 = 0x4000
    }

    private let descriptor: Int32
    private var buffer = [UInt8](repeating: 0, count: 4_096)
    /// The part of the buffer that has arrived and isn't read yet.
    private var unread = 0..<0

    /// Connects, negotiates, and sends everything up to MAIL.
    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var yes: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard Ports.withAddress("127.0.0.1", port, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            throw Failure("the filter: \(String(cString: strerror(errno)))")
        }
        // Version 6, all actions, all steps.
        try send(Self.packet("O", Self.big(6) + Self.big(0x1ff) + Self.big(0x1f_ffff)))
        let answer = try receive()
        guard answer.command == UInt8(ascii: "O"), answer.data.count >= 12 else {
            throw Failure("the filter didn't answer the negotiation")
        }
        let steps = answer.data.dropFirst(8).prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let address: [UInt8] = [UInt8(ascii: "4"), 0x80, 0x00] + Array("203.0.113.7\0".utf8)
        try step(
            "C", ["j", "mx.example.test", "{daemon_name}", "smtpd"], Array("client.example\0".utf8) + address,
            isAnswered: steps & Unanswered.connect == 0)
        try step("H", [], Array("client.example\0".utf8), isAnswered: steps & Unanswered.hello == 0)
        try step(
            "M", ["{mail_addr}", "sender@client.example"], Array("<sender@client.example>\0".utf8),
            isAnswered: steps & Unanswered.mail == 0)
    }

    deinit { close(descriptor) }

    /// The packets for a recipient, with Postfix's macros.
    static func question(_ recipient: String) -> [UInt8] {
        let macros = "R{rcpt_mailer}\0relay\0{rcpt_host}\0example.com\0{rcpt_addr}\0\(recipient)\0"
        return packet("D", Array(macros.utf8)) + packet("R", Array("<\(recipient)>\0".utf8))
    }

    /// Sends questions and reads an answer for each; its first letter must be the given one: `c` for continue, `y` for
    /// a reply.
    func ask(_ questions: [UInt8], answers: Int, each letter: UInt8) throws {
        try send(questions)
        for _ in 0..<answers {
            guard try receive().command == letter else { throw Failure("unexpected answer of the filter") }
        }
    }

    private func step(_ command: Character, _ macros: [String], _ data: [UInt8], isAnswered: Bool) throws {
        let texts: [UInt8] = macros.flatMap { Array($0.utf8) + [0] }
        try send(Self.packet("D", [command.asciiValue ?? 0] + texts) + Self.packet(command, data))
        if isAnswered { _ = try receive() }
    }

    private static func packet(_ command: Character, _ data: [UInt8]) -> [UInt8] {
        big(UInt32(data.count + 1)) + [command.asciiValue ?? 0] + data
    }

    private static func big(_ number: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
    }

    private func send(_ bytes: [UInt8]) throws {
        guard Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw Failure("the filter has closed the connection")
        }
    }

    /// Reads one packet.
    private func receive() throws -> (command: UInt8, data: ArraySlice<UInt8>) {
        var need = 5
        while true {
            if unread.count >= 4 {
                need = 4 + buffer[unread.prefix(4)].reduce(0) { $0 << 8 | Int($1) }
                guard need >= 5, need <= buffer.count else { throw Failure("the filter sent an invalid packet") }
            }
            if unread.count >= need { break }
            try readMore()
        }
        let packet = unread.prefix(need)
        unread = unread.dropFirst(need)
        return (buffer[packet.startIndex + 4], buffer[packet.dropFirst(5)])
    }

    private func readMore() throws {
        if unread.isEmpty {
            unread = 0..<0
        } else if unread.upperBound == buffer.count {
            buffer.replaceSubrange(0..<unread.count, with: Array(buffer[unread]))
            unread = 0..<unread.count
        }
        let end = unread.upperBound
        let count = buffer.withUnsafeMutableBytes {
            recv(descriptor, $0.baseAddress?.advanced(by: end), $0.count - end, 0)
        }
        guard count > 0 else { throw Failure("the filter has closed the connection, or doesn't answer") }
        unread = unread.lowerBound..<end + count
    }
}
