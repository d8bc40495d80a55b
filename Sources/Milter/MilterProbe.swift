import CMilter
import Glibc
import Synchronization
import System

/// A client of the filter's own socket, which asks for a recipient as an MTA does: it shows whether the filter still answers.
///
/// It keeps its connection from one question to the next, so that it is answered even while the filter has no room for new connections.
/// The connection's macro `j` is ``name``, by which the filter's session recognizes it and records nothing. One thread at a time.
public final class MilterProbe {
    /// Why a question wasn't answered.
    public struct Failure: Error, CustomStringConvertible {
        /// What failed, and the system's reason.
        public let description: String
    }

    /// The value of the macro `j`, which no MTA sends: it has a random number of this process.
    public static let name = "postern-watchdog-\(UInt64.random(in: .min ... .max))"

    private let socket: MilterSocket
    private var descriptor: Int32 = -1
    /// Whether the filter waits for no, and sends no, responses to these commands.
    private var silent: (connect: Bool, helo: Bool, mail: Bool) = (false, false, false)

    /// A probe that hasn't connected yet.
    public init(_ socket: MilterSocket) { self.socket = socket }

    deinit { disconnect() }

    /// Asks for the recipient `<postmaster>`, and returns when any response has come.
    public func ask(within limit: Duration) throws(Failure) {
        let deadline = ContinuousClock.now + limit
        do {
            if descriptor < 0 { try connect(deadline) }
            try exchange("M", Array("<>\0".utf8), answered: !silent.mail, deadline)
            try exchange("R", Array("<postmaster>\0".utf8), answered: true, deadline)
            try exchange("A", [], answered: false, deadline)
        } catch {
            disconnect()
            throw error
        }
    }

    private func disconnect() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    private func connect(_ deadline: ContinuousClock.Instant) throws(Failure) {
        descriptor = socket.connect()
        guard descriptor >= 0 else { throw Failure(description: "connecting to \(socket): \(systemMessage())") }
        // Version 6, all actions, all steps; the filter's response has what it makes of them.
        let offer: [UInt8] = [0, 0, 0, 6, 0, 0, 0x1, 0xFF, 0, 0x1F, 0xFF, 0xFF]
        let response = try exchange("O", offer, answered: true, deadline)
        guard response.count >= 13 else {
            throw Failure(description: "negotiating with \(socket): no sense in the response")
        }
        let steps = response[9..<13].reduce(0) { $0 << 8 | UInt32($1) }
        silent = (
            steps & UInt32(SMFIP_NR_CONN) != 0, steps & UInt32(SMFIP_NR_HELO) != 0, steps & UInt32(SMFIP_NR_MAIL) != 0
        )
        try exchange("D", Array("Cj\0\(Self.name)\0".utf8), answered: false, deadline)
        try exchange("C", Array("postern\0U".utf8), answered: !silent.connect, deadline)
        try exchange("H", Array("postern\0".utf8), answered: !silent.helo, deadline)
    }

    /// Sends a packet and returns the response; empty if there is none to wait for.
    @discardableResult
    private func exchange(
        _ command: UnicodeScalar, _ data: [UInt8], answered: Bool, _ deadline: ContinuousClock.Instant
    ) throws(Failure) -> [UInt8] {
        let length = UInt32(truncatingIfNeeded: data.count + 1)
        var packet = (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) }
        packet.append(UInt8(truncatingIfNeeded: command.value))
        packet += data
        while !packet.isEmpty {
            try wait(POLLOUT, deadline)
            let sent = send(descriptor, packet, packet.count, Int32(MSG_NOSIGNAL))
            guard sent > 0 else { throw Failure(description: "writing to \(socket): \(systemMessage())") }
            packet.removeFirst(sent)
        }
        guard answered else { return [] }
        let header = try read(4, deadline)
        let size = header.reduce(0) { $0 << 8 | Int($1) }
        guard (1...65_536).contains(size) else {
            throw Failure(description: "reading from \(socket): a packet of \(size) bytes")
        }
        return try read(size, deadline)
    }

    private func read(_ count: Int, _ deadline: ContinuousClock.Instant) throws(Failure) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: count)
        while bytes.count < count {
            try wait(POLLIN, deadline)
            let got = recv(descriptor, &buffer, count - bytes.count, 0)
            guard got > 0 else {
                throw Failure(
                    description:
                        "reading from \(socket): \(got == 0 ? "the filter closed the connection" : systemMessage())")
            }
            bytes += buffer.prefix(got)
        }
        return bytes
    }

    private func wait(_ event: Int32, _ deadline: ContinuousClock.Instant) throws(Failure) {
        while true {
            let left = (deadline - ContinuousClock.now) / .milliseconds(1)
            guard left > 0 else { throw Failure(description: "\(socket): no response within the time") }
            var polled = pollfd(fd: descriptor, events: Int16(event), revents: 0)
            let ready = poll(&polled, 1, Int32(min(left.rounded(.up), 60_000)))
            if ready > 0 { return }
            guard ready == 0 || errno == EINTR else { throw Failure(description: "\(socket): \(systemMessage())") }
        }
    }
}

extension MilterSocket {
    /// A new descriptor that is connected to the socket, or that connects without waiting; -1 with `errno` if that fails. For a TCP socket
    /// on every address, the loopback address.
    fileprivate func connect() -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        switch location {
        case .unix(let path):
            let descriptor = Glibc.socket(AF_UNIX, kind, 0)
            guard descriptor >= 0 else { return -1 }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
            return Self.connect(descriptor, &address)
        case .tcp(let family, let host, let port):
            var hints = addrinfo()
            hints.ai_family = family == .ipv4 ? AF_INET : AF_INET6
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            var found: UnsafeMutablePointer<addrinfo>?
            defer { if let found { freeaddrinfo(found) } }
            // Without a host, getaddrinfo gives the loopback address.
            guard getaddrinfo(host, String(port), &hints, &found) == 0, let found, let target = found.pointee.ai_addr
            else {
                errno = EADDRNOTAVAIL
                return -1
            }
            let descriptor = Glibc.socket(hints.ai_family, kind, 0)
            guard descriptor >= 0 else { return -1 }
            return Self.finish(descriptor, Glibc.connect(descriptor, target, found.pointee.ai_addrlen))
        }
    }

    private static func connect(_ descriptor: Int32, _ address: inout sockaddr_un) -> Int32 {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Self.finish(descriptor, Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)))
            }
        }
    }

    /// The descriptor if connecting has succeeded, else -1 with its error in `errno`.
    private static func finish(_ descriptor: Int32, _ status: Int32) -> Int32 {
        if status == 0 { return descriptor }
        let code = errno
        close(descriptor)
        errno = code
        return -1
    }
}
