import Glibc

/// TCP ports of the loopback.
enum Ports {
    /// A port that nothing listens on now, from below the range that the kernel gives to outgoing connections.
    static func unused() throws -> UInt16 {
        for _ in 0..<200 {
            let port = UInt16.random(in: 20_000..<32_000)
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            guard descriptor >= 0 else { break }
            defer { close(descriptor) }
            var one: Int32 = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
            if withLoopback("127.0.0.1", port, { bind(descriptor, $0, $1) }) == 0 { return port }
        }
        throw ChildProcess.Failure(description: "no unused TCP port on 127.0.0.1")
    }

    /// An address of 127.0.0.0/8 on which nothing listens on these ports, for servers that can't be given others.
    ///
    /// - Returns: nil where there is none: something listens on one of the ports on all addresses, or this process may not.
    static func unusedAddress(for ports: [UInt16]) -> String? {
        for _ in 0..<20 {
            // Far from what people write by hand.
            let parts = [UInt8.random(in: 64...250), .random(in: 1...250), .random(in: 1...250)]
            let address = "127." + parts.map { "\($0)" }.joined(separator: ".")
            let areFree = ports.allSatisfy { port in
                let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                defer { close(descriptor) }
                return withLoopback(address, port) { bind(descriptor, $0, $1) } == 0 && listen(descriptor, 1) == 0
            }
            if areFree { return address }
        }
        return nil
    }

    /// True where something accepts connections.
    static func answers(_ port: UInt16, at address: String = "127.0.0.1") -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return withLoopback(address, port) { connect(descriptor, $0, $1) } == 0
    }

    /// Calls `body` with the C form of an IPv4 address and port.
    static func withLoopback<R>(
        _ address: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> R
    ) rethrows -> R {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        inet_pton(AF_INET, address, &name.sin_addr)
        return try withUnsafePointer(to: &name) {
            try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
