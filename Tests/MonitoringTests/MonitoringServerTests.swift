import Foundation
import Glibc
import Synchronization
import System
import TestSupport
import Testing

@testable import Monitoring

@Suite struct MonitoringServerTests {
    /// A running server.
    private final class Server {
        let port: UInt16
        let server: MonitoringServer
        let conditions = Conditions()

        final class Conditions: Sendable {
            let list = Mutex<[PartFailure?]>([])
        }

        init(
            port: UInt16? = nil, limits: HTTPServer.Limits = HTTPServer.Limits(),
            live: @escaping @Sendable () -> Data = { Data("{}".utf8) }
        ) throws {
            let port = try port ?? HTTPClient.unusedPort()
            self.port = port
            server = MonitoringServer(
                host: "127.0.0.1", port: port, isLoopback: true, limits: limits,
                documents: .init(metrics: { _ in "# EOF\n" }, live: live, obstacle: { nil }))
            server.start(patience: .seconds(20)) { [conditions] failure in
                conditions.list.withLock { $0.append(failure) }
            }
        }

        deinit { server.stop() }

        func get(_ path: String, from address: String = "127.0.0.1") throws -> String {
            let client = try HTTPClient(port: port, from: address)
            client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.readToEnd()
        }
    }

    @Test(arguments: [
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8892\r\n", 200), ("HEAD / HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: LOCALHOST:1\r\n", 200), ("GET /healthz HTTP/1.1\r\nHost: [::1]:8892\r\n", 200),
        ("GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nHost: localhost\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: gateway.example:8892\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n", 421), ("GET / HTTP/1.0\r\n", 421),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n", 404),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n", 405),
        ("DELETE /nothing HTTP/1.1\r\nHost: localhost\r\n", 405), ("GET /Metrics HTTP/1.1\r\nHost: localhost\r\n", 404),
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n", 413),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", 413),
        ("GET /\(String(repeating: "a", count: 20_000)) HTTP/1.1\r\nHost: localhost\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: \(String(repeating: "a", count: 20_000))\r\n", 431),
        ("GET\r\n", 400),
    ])
    func eachRequestGetsItsStatusCode(request: String, status: Int) throws {
        let server = try Server()
        let client = try HTTPClient(port: server.port)
        client.send(request + "Connection: close\r\n\r\n")
        let response = client.readToEnd()
        // Some versions of libmicrohttpd close the connection without a response if the request line is malformed.
        let isClosed = status == 400 && response.isEmpty
        #expect(
            isClosed || response.hasPrefix("HTTP/1.1 \(status) ") || response.hasPrefix("HTTP/1.0 \(status) "),
            "\(response)")
    }

    @Test func onAPublicAddressEachHostHeaderIsAccepted() {
        let request = HTTPServer.Request(method: "GET", path: "/")
        #expect(MonitoringServer.refusal(of: request, names: nil) == nil)
        #expect(MonitoringServer.refusal(of: request, names: ["localhost"])?.status == 421)
    }

    @Test func aConnectionServesSeveralRequests() throws {
        let server = try Server()
        let client = try HTTPClient(port: server.port)
        for _ in 0..<3 {
            client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            #expect(client.readResponse(bodySize: 3).hasSuffix("\r\n\r\nok\n"))
        }
    }

    @Test func overTheLimitOfAnAddressItsOldestConnectionEnds() throws {
        var limits = HTTPServer.Limits()
        limits.connectionsOfAddress = 4
        let server = try Server(limits: limits)
        let other = try HTTPClient(port: server.port, from: "127.0.0.2")
        other.send("GET / HTTP/1.1\r\nX: ")
        let silent = try (0..<4).map { _ in try HTTPClient(port: server.port) }
        #expect(!silent[0].isClosed(within: 200))
        #expect(try server.get("/healthz").hasSuffix("ok\n"))
        #expect(silent[0].isClosed())
        #expect(!silent[3].isClosed(within: 100) && !other.isClosed(within: 0))
    }

    @Test func overTheLimitOfAllConnectionsTheOldestEnds() throws {
        var limits = HTTPServer.Limits()
        limits.connections = 8
        let server = try Server(limits: limits)
        let silent = try (0..<8).map { try HTTPClient(port: server.port, from: "127.0.0.\($0 + 2)") }
        #expect(!silent[0].isClosed(within: 200))
        #expect(try server.get("/healthz").hasSuffix("ok\n"))
        #expect(silent[0].isClosed())
        #expect(!silent[7].isClosed(within: 100))
    }

    @Test func aFloodOfConnectionsDoesNotKeepOtherClientsOut() throws {
        let server = try Server()
        var clients: [HTTPClient] = []
        for place in 0..<500 {
            let client = try HTTPClient(port: server.port, from: "127.0.\(place % 7).\(place % 5 + 1)")
            client.send("GET / HTTP/1.1\r\nX: ")
            clients.append(client)
        }
        #expect(try server.get("/healthz", from: "127.0.0.200").hasSuffix("ok\n"))
        // The incomplete requests end in time, those of the newest connections too.
        for client in clients { #expect(client.isClosed(within: 30_000)) }
    }

    @Test func aConnectionThatSendsSingleBytesEnds() throws {
        var limits = HTTPServer.Limits()
        limits.age = .milliseconds(1_500)
        let server = try Server(limits: limits)
        let client = try HTTPClient(port: server.port)
        client.send("GET / HTTP/1.1\r\nX: ")
        let isClosed = eventually(within: 10) {
            client.send("a")
            return client.isClosed(within: 100)
        }
        #expect(isClosed)
    }

    @Test func aSilentConnectionEnds() throws {
        var limits = HTTPServer.Limits()
        limits.idleSeconds = 1
        let server = try Server(limits: limits)
        let client = try HTTPClient(port: server.port)
        #expect(client.isClosed(within: 10_000))
    }

    /// A server that has begun to make `/live.json` for a client, and goes on once the semaphore is signalled.
    private func serverWithHeldDocument() throws -> (server: Server, client: HTTPClient, release: SteadySemaphore) {
        let release = SteadySemaphore()
        let server = try Server(live: {
            release.wait()
            return Data("{}".utf8)
        })
        let client = try HTTPClient(port: server.port)
        client.send("GET /live.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        #expect(!client.isClosed(within: 200))
        return (server, client, release)
    }

    @Test func healthIsAnsweredWhileADocumentIsBeingMade() throws {
        let (server, live, release) = try serverWithHeldDocument()
        #expect(try server.get("/healthz").hasSuffix("ok\n"))
        #expect(try server.get("/readyz").hasSuffix("ready\n"))
        release.signal()
        #expect(live.readToEnd().hasSuffix("{}"))
    }

    @Test func theServerStopsWhileADocumentIsBeingMade() throws {
        let (server, client, release) = try serverWithHeldDocument()
        let began = ContinuousClock.now
        withExtendedLifetime(client) { server.server.stop() }
        #expect(ContinuousClock.now - began < .seconds(2))
        release.signal()
    }

    @Test func aPortInUseIsOpenedOnceItIsFree() throws {
        let first = try Server()
        let second = try Server(port: first.port)
        let failure = try #require(second.conditions.list.withLock { $0.first ?? nil })
        #expect(
            failure.reason
                == "http.listen: can't listen on 127.0.0.1:\(first.port): Address already in use")
        #expect(failure.nextTry != nil)
        first.server.stop()
        #expect(eventually(within: 30) { second.conditions.list.withLock { $0.last == .some(nil) } })
        #expect(try second.get("/healthz").hasSuffix("ok\n"))
    }
}
