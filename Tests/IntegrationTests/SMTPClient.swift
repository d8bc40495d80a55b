import Foundation
import Glibc

/// The client's side of an SMTP conversation: raw lines over a plain socket, all of it kept.
final class SMTPClient {
    /// A reply, its lines without CRLF.
    struct Reply: CustomStringConvertible {
        let lines: [String]

        /// Such as 550; 0 where the reply has none.
        var code: Int { Int(lines.last?.prefix(3) ?? "") ?? 0 }
        /// The first digit: 2 accepted, 4 for now not, 5 refused.
        var category: Int { code / 100 }
        /// The last line after its code.
        var text: String { String(lines.last?.dropFirst(4) ?? "") }
        var description: String { lines.joined(separator: "\n") }
    }

    /// The server closed the connection, or took too long for an answer.
    struct ConnectionLost: Error, CustomStringConvertible {
        let description: String
    }

    private let descriptor: Int32
    private var received: [UInt8] = []
    private var position = 0
    /// What was said, a line each: `> ` the client, `< ` the server.
    private(set) var transcript: [String] = []
    /// What the server has greeted with.
    private(set) var greeting = Reply(lines: [])

    /// Connects to 127.0.0.1 and reads the greeting.
    ///
    /// - Parameters:
    ///   - source: the client's own address, any of 127.0.0.0/8.
    ///   - patience: how many seconds a reply may take.
    ///   - welcome: whether a greeting that turns the client away is an error.
    init(
        port: UInt16, from source: String = "127.0.0.1", patience: Int = 30, welcome: Bool = true
    ) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var timeout = timeval(tv_sec: patience, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        guard Ports.withLoopback(source, 0, { bind(descriptor, $0, $1) }) == 0,
            Ports.withLoopback("127.0.0.1", port, { connect(descriptor, $0, $1) }) == 0
        else { throw ConnectionLost(description: "127.0.0.1:\(port): \(String(cString: strerror(errno)))") }
        greeting = try reply()
        guard greeting.category == 2 || !welcome else { throw ConnectionLost(description: "greeted with \(greeting)") }
    }

    deinit { close(descriptor) }

    /// Sends a command and returns its reply.
    @discardableResult func command(_ line: String) throws -> Reply {
        try send(line)
        return try reply()
    }

    /// HELO and MAIL, both of which must be accepted.
    func begin(from sender: String = "sender@client.test", helo: String = "client.test") throws {
        for line in ["HELO \(helo)", "MAIL FROM:<\(sender)>"] {
            let answer = try command(line)
            guard answer.category == 2 else { throw ConnectionLost(description: "\(line) → \(answer)") }
        }
    }

    /// The answer to `RCPT TO:<recipient>`.
    func recipient(_ recipient: String) throws -> Reply { try command("RCPT TO:<\(recipient)>") }

    /// Sends a message of one line to the recipients that were accepted; what the server says to it.
    @discardableResult func message(_ subject: String) throws -> Reply {
        let answer = try command("DATA")
        guard answer.code == 354 else { return answer }
        try send("Subject: \(subject)\r\n\r\nHello.")
        return try command(".")
    }

    /// Whether the server has closed the connection by itself, and says nothing more.
    var isClosedByServer: Bool {
        guard position == received.count else { return false }
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, 0) == 0
    }

    /// Ends the conversation in the orderly way.
    func quit() { _ = try? command("QUIT") }

    /// Sends a command of any bytes and returns its reply.
    @discardableResult func command(bytes: [UInt8]) throws -> Reply {
        try send(bytes: bytes)
        return try reply()
    }

    /// Sends a line without waiting for its reply.
    func send(_ line: String) throws { try send(bytes: Array(line.utf8)) }

    private func send(bytes: [UInt8]) throws {
        let line = String(decoding: bytes, as: UTF8.self)
        transcript.append("> \(line)")
        let bytes = bytes + Array("\r\n".utf8)
        guard Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw ConnectionLost(description: "sending \(line): \(String(cString: strerror(errno)))")
        }
    }

    /// Reads one reply, of however many lines.
    func reply() throws -> Reply {
        var lines: [String] = []
        repeat {
            let line = try readLine()
            transcript.append("< \(line)")
            lines.append(line)
        } while lines.last.map { $0.dropFirst(3).first == "-" } ?? false
        return Reply(lines: lines)
    }

    private func readLine() throws -> String {
        while true {
            if let end = received[position...].firstIndex(of: 0x0a) {
                let line = received[position..<end]
                position = end + 1
                return String(decoding: line.last == 0x0d ? line.dropLast() : line, as: UTF8.self)
            }
            received.removeFirst(position)
            position = 0
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = recv(descriptor, &chunk, chunk.count, 0)
            guard count > 0 else {
                let reason = count == 0 ? "closed by the server" : String(cString: strerror(errno))
                throw ConnectionLost(description: "\(reason), after: \(transcript.last ?? "nothing")")
            }
            received += chunk[..<count]
        }
    }
}
