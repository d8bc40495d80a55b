import Foundation
import Glibc
import System
import Testing

extension Directories {
    @Suite struct FaultProxyTests {
        private let server: Listener
        private let proxy: FaultProxy

        init() throws {
            server = try Listener()
            proxy = try FaultProxy(to: server.port)
        }

        /// A connection through the proxy: its client's and its server's end.
        private func connection() throws -> (client: Wire, server: Wire) {
            let client = try Wire(to: proxy.port)
            return (client, try server.accept())
        }

        @Test("the proxy passes and counts all bytes in both directions")
        func passes() throws {
            let (client, server) = try connection()
            client.send("search")
            #expect(server.read(6) == "search")
            let page = String(repeating: "entry ", count: 100_000)
            NamedThread.start("sender") { server.send(page) }
            #expect(client.read(600_000) == page)
            #expect(
                eventually(within: 5) {
                    proxy.counts
                        == FaultProxy.Counts(
                            connections: 1, open: 1, bytesFromClients: 6, bytesFromServer: 600_000, faults: 0)
                })
            server.close()
            #expect(client.hasEnded)
            #expect(eventually(within: 5) { proxy.counts.open == 0 })
        }

        @Test("new connections are refused, and the old one stays open")
        func refuses() throws {
            let (client, server) = try connection()
            proxy.set(.refuse)
            #expect(try Wire(to: proxy.port).hasEnded)
            server.send("still here")
            #expect(client.read(10) == "still here")
            #expect(proxy.hasFaults())
            proxy.set(.pass)
            let (again, other) = try connection()
            other.send("back")
            #expect(again.read(4) == "back")
        }

        @Test("if no server listens, the client's connection is closed")
        func serverAway() throws {
            let proxy = try FaultProxy(to: Ports.unused())
            #expect(try Wire(to: proxy.port).hasEnded)
        }

        @Test("a stall holds both directions until it ends")
        func stalls() throws {
            let (client, server) = try connection()
            proxy.set(.stall)
            client.send("request")
            server.send("response")
            #expect(client.isSilent && server.isSilent)
            proxy.set(.pass)
            #expect(server.read(7) == "request")
            #expect(client.read(8) == "response")
        }

        @Test("a stalled proxy notices that the client has closed the connection")
        func leavesStall() throws {
            proxy.set(.stall)
            let client = try Wire(to: proxy.port)
            #expect(eventually(within: 5) { proxy.counts.open == 1 })
            client.close()
            #expect(eventually(within: 5) { proxy.counts.open == 0 })
        }

        @Test("a connection stalls after a given number of bytes")
        func stallsAfter() throws {
            proxy.set(.stallAfter(.ofConnection(4)))
            let (client, server) = try connection()
            server.send("response")
            #expect(client.read(4) == "resp")
            #expect(client.isSilent)
            #expect(proxy.hasFaults())
            client.send("more")
            #expect(server.read(4) == "more")
            proxy.set(.pass)
            #expect(client.read(4) == "onse")
        }

        @Test("a connection is closed after a given number of bytes", arguments: [0, 3, 8])
        func cutsAfter(count: Int) throws {
            proxy.set(.cutAfter(.ofConnection(count)))
            let (client, server) = try connection()
            #expect(client.isSilent)
            server.send("response")
            #expect(client.rest == "response".prefix(count))
            #expect(server.hasEnded)
        }

        @Test("a connection is closed once, after a given number of further bytes")
        func cutsFromNow() throws {
            let (client, server) = try connection()
            server.send("first page, ")
            #expect(client.read(12) == "first page, ")
            proxy.set(.cutAfter(.fromNow(6)), once: true)
            server.send("second page")
            #expect(client.rest == "second")
            #expect(proxy.hasFaults())
            let (again, other) = try connection()
            other.send("third page")
            #expect(again.read(10) == "third page")
        }

        @Test("given bytes from the server cut a connection, also in pieces", arguments: [true, false])
        func cutsWhenServerSends(forwarding: Bool) throws {
            proxy.cutWhen(serverSends: "uid=bob", forwarding: forwarding)
            let (client, server) = try connection()
            server.send("dn: uid=anna, dn: uid=bob, dn: uid=carl")
            #expect(client.rest == (forwarding ? "dn: uid=anna, dn: uid=bob" : "dn: uid=anna, dn: "))
            let (other, pieces) = try connection()
            pieces.send("dn: uid=b")
            #expect(other.read(9) == "dn: uid=b")
            pieces.send("ob, dn: uid=carl")
            #expect(other.rest == (forwarding ? "ob" : ""))
        }

        @Test("given bytes from the client cut a connection")
        func cutsWhenClientSends() throws {
            proxy.set(.cutWhen(.client, sends: Array("search".utf8), forwarding: false))
            let (client, server) = try connection()
            client.send("bind, search")
            #expect(server.rest == "bind, ")
            #expect(client.hasEnded)
        }

        @Test("the server's bytes are passed slowly")
        func slow() throws {
            proxy.set(.slow(bytesPerSecond: 1000))
            let (client, server) = try connection()
            let start = ContinuousClock.now
            server.send(String(repeating: "x", count: 300))
            #expect(client.read(300).count == 300)
            #expect(.now - start >= .milliseconds(250))
        }

        @Test("one byte of each connection is inverted")
        func corrupts() throws {
            proxy.set(.corrupt(at: .ofConnection(5)))
            for _ in 0..<2 {
                let (client, server) = try connection()
                server.send("one, two")
                #expect(client.readBytes(8) == Array("one, ".utf8) + [~UInt8(ascii: "t")] + Array("wo".utf8))
            }
            #expect(proxy.hasFaults(2))
        }

        @Test("all connections are cut at once, orderly or with a reset", arguments: [false, true])
        func cutsAll(reset: Bool) throws {
            proxy.resets(reset)
            let connections = [try connection(), try connection()]
            proxy.cutAll()
            for (client, server) in connections {
                #expect(client.hasEnded && server.hasEnded)
                #expect(client.wasReset == reset)
            }
            let (client, server) = try connection()
            server.send("new")
            #expect(client.read(3) == "new")
        }

        @Test("the proxy's connections and port are closed with it")
        func ends() throws {
            var proxy: FaultProxy? = try FaultProxy(to: server.port)
            let port = try #require(proxy?.port)
            let client = try Wire(to: port)
            let accepted = try server.accept()
            proxy = nil
            #expect(client.hasEnded && accepted.hasEnded)
            #expect(!Ports.answers(port))
        }
    }
}

/// A listening socket on the loopback.
private final class Listener {
    let port: UInt16
    private let descriptor: Int32

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        self.descriptor = descriptor
        port = try Ports.unused()
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        try #require(Ports.withLoopback("127.0.0.1", port) { bind(descriptor, $0, $1) } == 0)
        try #require(listen(descriptor, 16) == 0)
    }

    deinit { close(descriptor) }

    func accept() throws -> Wire {
        let accepted = Glibc.accept(descriptor, nil, nil)
        try #require(accepted >= 0)
        return Wire(accepted)
    }
}

/// An end of a TCP connection; reading waits for at most five seconds.
private final class Wire: @unchecked Sendable {
    private var descriptor: Int32
    private(set) var wasReset = false

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    convenience init(to port: UInt16) throws {
        self.init(socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        try #require(Ports.withLoopback("127.0.0.1", port) { connect(descriptor, $0, $1) } == 0)
    }

    deinit { close() }

    func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    func send(_ text: String) {
        var bytes = Array(text.utf8)
        while !bytes.isEmpty {
            let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            guard count > 0 else { return }
            bytes.removeFirst(count)
        }
    }

    func read(_ count: Int) -> String { String(decoding: readBytes(count), as: UTF8.self) }

    /// All that comes until the connection ends.
    var rest: String { read(.max) }

    /// True once the other side has closed and all was read.
    var hasEnded: Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, 0)
        wasReset = count < 0 && errno == ECONNRESET
        return count == 0 || wasReset
    }

    /// Whether nothing comes for a while.
    var isSilent: Bool {
        var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&event, 1, 150) == 0
    }

    func readBytes(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < count {
            let received = recv(descriptor, &chunk, min(chunk.count, count - bytes.count), 0)
            guard received > 0 else { break }
            bytes += chunk[..<received]
        }
        return bytes
    }
}
