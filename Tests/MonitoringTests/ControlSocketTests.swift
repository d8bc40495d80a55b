import Foundation
import Glibc
import Synchronization
import System
import TestSupport
import Testing

@testable import Monitoring

@Suite struct ControlSocketTests {
    private func server(
        _ database: String, reload: @escaping @Sendable (Bool) -> ControlSocket.ReloadResult? = { _ in nil }
    ) throws -> ControlServer {
        let server = try ControlServer(database: database, ServiceHealth { _, _ in })
        server.start(
            status: { Self.status }, reload: { acceptsOlder, ended in reload(acceptsOlder).map(ended) }, tick: {})
        return server
    }

    private static let status = FilterStatus(
        version: "1.2.3", process: 7, user: 8, started: Date(timeIntervalSince1970: 1_000), socket: "inet:1",
        mode: "enforce", domains: 2, sessions: .init(open: 1, total: 2),
        connections: .init(open: 1, limit: 2, deferred: 3, dropped: 4, expired: 5), parts: [], messagesDropped: 0,
        indexExpected: true,
        log: .init(queued: 0, queueCapacity: 1, written: 2, thinned: 3, waiting: 4, failing: false),
        harvest: .init(networks: 0, offenders: 0, held: 0), unlistedSenders: 0)

    @Test func statusAndReloadAreAnswered() throws {
        let folder = try TemporaryFolder()
        let database = folder.file("log.sqlite")
        let server = try server(database) { acceptsOlder in
            .init(
                isInForce: !acceptsOlder, message: "3 domains",
                olderIndex: acceptsOlder ? .init(isInUse: true, message: "generation 6") : nil)
        }
        defer { server.stop() }
        let client = try ControlClient(database: database)
        #expect(client.process == getpid())
        #expect(client.status()?.connections.expired == 5)
        let reloaded = try ControlClient(database: database).reload(acceptsOlderIndex: false, within: .seconds(10))
        #expect(reloaded == .init(isInForce: true, message: "3 domains"))
        let older = try ControlClient(database: database).reload(acceptsOlderIndex: true, within: .seconds(10))
        #expect(older.olderIndex?.message == "generation 6" && !older.isInForce)
    }

    @Test func onlyKnownLinesAreRequests() {
        for request in [
            ControlSocket.Request.status, .reload(acceptsOlderIndex: false), .reload(acceptsOlderIndex: true),
        ] {
            #expect(ControlSocket.Request(line: request.line) == request)
        }
        for line in ["", "stop", "reload now", "status "] { #expect(ControlSocket.Request(line: line) == nil) }
    }

    @Test func reloadFailsIfTheFilterEndsBeforeItAnswers() throws {
        let folder = try TemporaryFolder()
        let server = try server(folder.file("log"))
        defer { server.stop() }
        let client = try ControlClient(database: folder.file("log"))
        #expect {
            try client.reload(acceptsOlderIndex: false, within: .seconds(10))
        } throws: { ($0 as? ControlClient.Failure)?.kind == .ended }
    }

    @Test func aSecondFilterForTheSameLogIsRefused() throws {
        let folder = try TemporaryFolder()
        let first = try server(folder.file("log"))
        #expect(throws: ControlServer.InUse.self) { try server(folder.file("log")) }
        first.stop()
        #expect {
            _ = try ControlClient(database: folder.file("other"))
        } throws: { ($0 as? ControlClient.Failure)?.kind == .notRunning }
    }

    @Test func aNewFilterReplacesTheSocketOfAKilledFilter() throws {
        let folder = try TemporaryFolder()
        let path = ControlSocket.path(database: folder.file("log"))
        // A socket at which no process listens.
        let (descriptor, name) = ControlSocket.openFolder(of: path)
        defer { close(descriptor) }
        let dead = ControlSocket.makeSocket()
        _ = ControlSocket.withAddress(file: name, in: descriptor) { bind(dead, $0, $1) }
        close(dead)
        #expect(FileManager.default.fileExists(atPath: path))
        let first = try server(folder.file("log"))
        #expect(try ControlClient(database: folder.file("log")).status()?.version == "1.2.3")
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        first.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func aFilterWhoseLogFolderIsMissingAnswersAtTheAbstractAddress() throws {
        let folder = try TemporaryFolder()
        let database = folder.file("missing/log.sqlite")
        let health = ServiceHealth { _, _ in }
        let server = try ControlServer(database: database, health)
        server.start(status: { Self.status }, reload: { _, _ in }, tick: {})
        defer { server.stop() }
        #expect(health.reports.first?.works == false)
        #expect(health.reports.first?.advice?.contains("missing writable") == true)
        #expect(try ControlClient(database: database).status()?.version == "1.2.3")
    }

    @Test func aFilterOfTheFirstVersionsShowsItsStatusAndRefusesReload() throws {
        let folder = try TemporaryFolder()
        let (descriptor, name) = ControlSocket.openFolder(of: ControlSocket.path(database: folder.file("log")))
        defer { close(descriptor) }
        let listener = ControlSocket.makeSocket()
        defer { close(listener) }
        #expect(ControlSocket.withAddress(file: name, in: descriptor) { bind(listener, $0, $1) } == 0)
        #expect(listen(listener, 8) == 0)
        let text = try JSON.text(Self.status)
        let thread = NamedThread.start("old filter") {
            for _ in 0..<2 {
                let client = accept(listener, nil, nil)
                ControlSocket.send(text, on: client)
                close(client)
            }
        }
        #expect(try ControlClient(database: folder.file("log")).status()?.version == "1.2.3")
        let client = try ControlClient(database: folder.file("log"))
        #expect {
            try client.reload(acceptsOlderIndex: false, within: .seconds(10))
        } throws: { ($0 as? ControlClient.Failure)?.kind == .otherVersion }
        thread.waitForEnd(within: .seconds(10))
    }
}
