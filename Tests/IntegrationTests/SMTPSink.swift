import Foundation
import Glibc
import Synchronization
import System

/// A mail server of a test's own that takes every message and keeps it: the inner server behind a gateway.
final class SMTPSink: Sendable {
    /// A message as it came in.
    struct Message: Sendable {
        /// The argument of MAIL FROM, parameters included: `<anna@example.com> SIZE=100`.
        let sender: String
        /// The recipients without their brackets, in their order.
        let recipients: [String]
        /// Header and body, lines separated by newlines.
        let text: String
    }

    /// Its address, one of 127.0.0.0/8.
    let host: String
    /// Its port.
    let port: UInt16

    private let descriptor: Int32
    private let mailbox = Mailbox()

    /// Outlives the sink in the threads of its connections.
    private final class Mailbox: Sendable {
        let messages = Mutex<[Message]>([])
    }

    /// Starts to listen.
    init(host: String = "127.0.0.1", port: UInt16? = nil) throws {
        self.host = host
        self.port = try port ?? Ports.unused()
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        guard Ports.withLoopback(host, self.port, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, 64) == 0 else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw ChildProcess.Failure(description: "\(host):\(self.port): \(reason)")
        }
        // The thread ends once shutdown() has ended accept(); it then closes the descriptor.
        NamedThread.start("sink") { [descriptor, mailbox] in
            while true {
                let connection = accept(descriptor, nil, nil)
                if connection < 0 { break }
                NamedThread.start("conversation") {
                    Conversation(connection).hold { message in
                        mailbox.messages.withLock { $0.append(message) }
                    }
                    close(connection)
                }
            }
            close(descriptor)
        }
    }

    deinit { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// What has come so far.
    var messages: [Message] { mailbox.messages.withLock { $0 } }

    /// Waits until so many messages have come.
    func messages(atLeast count: Int) -> [Message] {
        _ = eventually(within: 60) { messages.count >= count }
        return messages
    }

    /// The server's side of one connection.
    private final class Conversation {
        private let descriptor: Int32
        private var received: [UInt8] = []
        private var position = 0

        init(_ descriptor: Int32) { self.descriptor = descriptor }

        func hold(_ take: (Message) -> Void) {
            var sender = ""
            var recipients: [String] = []
            say("220 sink.example.test ESMTP")
            while let line = readLine() {
                switch line.prefix(4).uppercased() {
                case "EHLO": say("250-sink.example.test", "250-SIZE", "250-8BITMIME", "250-SMTPUTF8", "250 DSN")
                case "MAIL":
                    sender = String(line.dropFirst("MAIL FROM:".count))
                    recipients = []
                    say("250 2.1.0 Ok")
                case "RCPT":
                    let path = line.dropFirst("RCPT TO:<".count)
                    recipients.append(String(path[..<(path.lastIndex(of: ">") ?? path.endIndex)]))
                    say("250 2.1.5 Ok")
                case "DATA":
                    say("354 Go on")
                    var lines: [String] = []
                    while let line = readLine(), line != "." { lines.append(line) }
                    take(Message(sender: sender, recipients: recipients, text: lines.joined(separator: "\n")))
                    say("250 2.0.0 Ok")
                case "QUIT":
                    say("221 2.0.0 Bye")
                    return
                default: say("250 2.0.0 Ok")
                }
            }
        }

        private func say(_ lines: String...) {
            let bytes = Array(lines.map { "\($0)\r\n" }.joined().utf8)
            _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        }

        private func readLine() -> String? {
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
                guard count > 0 else { return nil }
                received += chunk[..<count]
            }
        }
    }
}
