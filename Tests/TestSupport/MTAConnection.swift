import Foundation

/// The MTA's side of a milter connection. A packet is a length of four bytes, a command and data.
package final class MTAConnection {
    package struct Packet: Equatable {
        package let command: Character
        package let data: [UInt8]

        /// The data up to a NUL.
        package var text: String { String(decoding: data.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private let descriptor: Int32
    /// Whether a packet is written as Sendmail writes it: first its head, then its data, which the kernel may delay.
    private var writesLikeSendmail = false

    /// Connects to the path of a unix socket, or to a port of 127.0.0.1.
    package init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        try connect(&address)
    }

    package init(port: UInt16, family: Int32 = AF_INET, likeSendmail: Bool = false) throws {
        writesLikeSendmail = likeSendmail
        descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
        if family == AF_INET6 {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_addr = in6addr_loopback
            address.sin6_port = port.bigEndian
            try connect(&address)
        } else {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            address.sin_port = port.bigEndian
            try connect(&address)
        }
        var yes: Int32 = likeSendmail ? 0 : 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
    }

    private func connect<Address>(_ address: inout Address) throws {
        var timeout = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        guard status == 0 else { throw TestFailure("connect: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    /// Closes the connection; the filter sees its end at once.
    package func hangUp() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Ends sending, and goes on receiving; `shutdown(2)`.
    package func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    // MARK: packets

    package static func packet(_ command: Character, _ data: [UInt8] = []) -> [UInt8] {
        let length = UInt32(data.count + 1)
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + [command.asciiValue ?? 0] + data
    }

    package static func strings(_ strings: [String]) -> [UInt8] { strings.flatMap { Array($0.utf8) + [0] } }

    /// Writes all bytes; false if the filter has closed the connection.
    @discardableResult
    package func write(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let end = writesLikeSendmail && sent == 0 ? min(5, bytes.count) : bytes.count
            let count = bytes[sent..<end].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    @discardableResult
    package func send(_ command: Character, _ strings: [String] = []) -> Bool {
        write(Self.packet(command, Self.strings(strings)))
    }

    /// Sends the macros of the next command: names and values in turn.
    package func sendMacros(_ command: Character, _ strings: [String]) {
        write(Self.packet("D", [command.asciiValue ?? 0] + Self.strings(strings)))
    }

    private func read(_ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var have = 0
        while have < count {
            let got = bytes[have...].withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if got <= 0 { return nil }
            have += got
        }
        return bytes
    }

    /// The next packet; nil if the connection has ended.
    package func receive() -> Packet? {
        guard let head = read(5) else { return nil }
        let length = head[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard length >= 1, length < 100_000, let data = read(length - 1) else { return nil }
        return Packet(command: Character(UnicodeScalar(head[4])), data: data)
    }

    // MARK: the dialogue

    /// The offer of a current MTA: version 6, all actions, all steps.
    package static let modern: (version: UInt32, actions: UInt32, steps: UInt32) = (6, 0x1ff, 0x1f_ffff)

    package static func negotiation(version: UInt32, actions: UInt32, steps: UInt32) -> [UInt8] {
        packet(
            "O",
            [version, actions, steps].flatMap { word in
                [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> $0) }
            })
    }

    /// Negotiates; returns the version, actions and steps that the filter asks for, and the macro lists by stage.
    package func negotiate(
        version: UInt32 = modern.version, actions: UInt32 = modern.actions, steps: UInt32 = modern.steps
    ) throws -> (words: [UInt32], macros: [UInt32: String]) {
        write(Self.negotiation(version: version, actions: actions, steps: steps))
        guard let answer = receive(), answer.command == "O", answer.data.count >= 12 else {
            throw TestFailure("no answer to the negotiation")
        }
        let words = stride(from: 0, to: 12, by: 4).map { start in
            answer.data[start..<(start + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        var macros: [UInt32: String] = [:]
        var rest = answer.data[12...]
        while rest.count > 4 {
            let stage = rest.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let name = rest.dropFirst(4).prefix { $0 != 0 }
            macros[stage] = String(decoding: name, as: UTF8.self)
            rest = rest.dropFirst(4 + name.count + 1)
        }
        return (words, macros)
    }

    package static func connectData(_ hostname: String, _ family: Character, _ port: UInt16, _ address: String)
        -> [UInt8]
    {
        Array(hostname.utf8) + [0, family.asciiValue ?? 0, UInt8(port >> 8), UInt8(port & 0xff)]
            + Array(address.utf8) + [0]
    }

    /// Sends connect, HELO and MAIL, without waiting for responses.
    package func begin(
        hostname: String = "client.example", family: Character = "4", address: String = "192.0.2.7",
        helo: String = "client.example", sender: [String] = ["<sender@example.org>"], version: String = "8.17.1"
    ) {
        sendMacros("C", ["j", "mx.example", "v", version])
        write(Self.packet("C", Self.connectData(hostname, family, 4_711, address)))
        send("H", [helo])
        send("M", sender)
    }

    /// Negotiates, and begins a message of a client with an IPv4 address.
    package static func started(path: String, client: String = "192.0.2.7") throws -> MTAConnection {
        let connection = try MTAConnection(path: path)
        _ = try connection.negotiate()
        connection.begin(address: client)
        return connection
    }

    /// Sends RCPT; returns the response.
    package func recipient(_ path: String, _ more: [String] = []) throws -> Packet {
        guard send("R", [path] + more), let answer = receive() else {
            throw TestFailure("no answer to RCPT TO:\(path)")
        }
        return answer
    }

    /// The counters of the test filter's process; this connection is counted as open.
    package func statistics(_ recipient: String = "<stats@test>") throws -> [String: Int] {
        let answer = try self.recipient(recipient)
        let pairs = answer.text.split(separator: " ").compactMap { field -> (String, Int)? in
            let parts = field.split(separator: "=")
            guard parts.count == 2, let number = Int(parts[1]) else { return nil }
            return (String(parts[0]), number)
        }
        return Dictionary(pairs) { first, _ in first }
    }
}
