import Foundation
import TestSupport
import Testing

@testable import Milter

/// Creating and removing the socket.
@Suite struct SocketTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func failure(opening socket: String) -> MilterError? {
        do throws(MilterError) {
            let configuration = MilterConfiguration(name: "test", socket: try MilterSocket(socket))
            try MilterServer(configuration) { _, _ in SilentSession() }.open()
            return nil
        } catch { return error }
    }

    private final class SilentSession: MilterSession {
        func recipient(
            _ context: borrowing MilterContext, arguments: borrowing MilterArguments
        ) -> MilterResponse { .continue }
    }

    @Test func `a socket that another filter listens at is reported`() throws {
        let path = folder.file("s")
        let filter = try FilterProcess.serving("unix:\(path)")
        let error = try #require(failure(opening: path))
        #expect(error.kind == .inUse)
        #expect(error.description == "socket unix:\(path): another process already listens there")
        let second = try FilterProcess([path])
        #expect(second.status() == 69)
        #expect(second.complaint() == "\(error)\n")
        // The first filter still works.
        #expect(try MTAConnection.started(path: path).recipient("<accept@test>").command == "c")
        #expect(filter.isRunning)
    }

    @Test func `a stale socket is replaced`() throws {
        let path = folder.file("s")
        let first = try FilterProcess.serving(path)
        first.signal(SIGKILL)
        _ = first.status()
        #expect(FileManager.default.fileExists(atPath: path))
        let second = try FilterProcess.serving(path)
        #expect(try MTAConnection.started(path: path).recipient("<accept@test>").command == "c")
        second.signal(SIGTERM)
        #expect(second.status() == 0)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func `the socket of a successor is not removed`() throws {
        let path = folder.file("s")
        let first = try FilterProcess.serving(path)
        try FileManager.default.removeItem(atPath: path)
        let second = try FilterProcess.serving(path)
        first.signal(SIGTERM)
        #expect(first.status() == 0)
        #expect(try MTAConnection.started(path: path).recipient("<accept@test>").command == "c")
        #expect(second.isRunning)
    }

    @Test func `a file that is not a socket is not replaced`() throws {
        let path = folder.file("s")
        try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
        let error = try #require(failure(opening: path))
        #expect(error.kind == .unusable)
        #expect(error.description.contains("is not a socket"))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        let link = folder.file("link")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
        #expect(failure(opening: link)?.kind == .unusable)
    }

    @Test func `a missing folder is reported`() {
        let error = failure(opening: folder.file("none/s"))
        #expect(error?.kind == .unusable)
        #expect(error?.description.contains("folder of the path doesn't exist") == true)
    }

    @Test func `a folder without permission is reported`() throws {
        // Root can write everywhere, so the filter runs as another user if the tests run as root.
        let launcher = geteuid() == 0 ? ["/usr/bin/setpriv", "--reuid=65534", "--clear-groups"] : []
        let executable = URL(fileURLWithPath: folder.file("filter"))
        try FileManager.default.copyItem(at: FilterProcess.executable, to: executable)
        let closed = folder.file("closed")
        try FileManager.default.createDirectory(
            atPath: closed, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o555])
        let filter = try FilterProcess(["\(closed)/s"], launcher: launcher, executable: executable)
        #expect(filter.status() == 77)
        #expect(filter.complaint() == "socket unix:\(closed)/s: no permission to create a socket in its folder\n")
    }

    @Test func `the socket has the configured permissions`() throws {
        for mode in ["660", "600", "666"] {
            let path = folder.file("s\(mode)")
            let filter = try FilterProcess([path, mode])
            #expect(try filter.line() == "ready")
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect(attributes[.posixPermissions] as? Int == Int(mode, radix: 8))
        }
    }

    @Test func `the filter listens at the longest path`() throws {
        let name = String(repeating: "x", count: MilterSocket.maximumPathLength - folder.path.utf8.count - 1)
        let path = folder.file(name)
        let filter = try FilterProcess.serving(path)
        #expect(try MTAConnection.started(path: path).recipient("<accept@test>").command == "c")
        #expect(filter.isRunning)
    }

    /// A port that was free a moment ago.
    private func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 ? getsockname(descriptor, address, &length) : -1
            }
        }
        guard status == 0 else { throw TestFailure("no free port") }
        return UInt16(bigEndian: address.sin_port)
    }

    @Test(arguments: ["inet:PORT@127.0.0.1", "inet:PORT@[127.0.0.1]", "inet:PORT@localhost", "inet:PORT"])
    func `the filter listens at a port`(_ form: String) throws {
        let port = try freePort()
        let socket = form.replacingOccurrences(of: "PORT", with: "\(port)")
        let filter = try FilterProcess.serving(socket)
        let connection = try MTAConnection(port: port)
        _ = try connection.negotiate()
        connection.begin()
        #expect(try connection.recipient("<accept@test>").command == "c")
        let error = try #require(failure(opening: socket))
        #expect(error.kind == .inUse)
        #expect(error.description == "socket \(try MilterSocket(socket)): another process already listens at the port")
        filter.signal(SIGTERM)
        #expect(filter.status() == 0)
    }

    @Test func `the filter listens at an IPv6 port`() throws {
        let port = try freePort()
        guard let filter = try? FilterProcess.serving("inet6:\(port)@[::1]") else {
            // On a machine without IPv6, the message says so.
            let error = try #require(failure(opening: "inet6:\(port)@[::1]"))
            #expect(error.kind == .unusable)
            return
        }
        let connection = try MTAConnection(port: port, family: AF_INET6)
        _ = try connection.negotiate()
        connection.begin(family: "6", address: "::1")
        #expect(try connection.recipient("<accept@test>").command == "c")
        #expect(filter.isRunning)
    }

    @Test func `an address that is not this machine's is reported`() {
        let foreign = failure(opening: "inet:8891@192.0.2.1")
        #expect(foreign?.kind == .unusable)
        #expect(foreign?.description == "socket inet:8891@192.0.2.1: 192.0.2.1 is not an address of this machine")
        let unknown = failure(opening: "inet:8891@host.invalid")
        #expect(unknown?.kind == .unusable)
        #expect(unknown?.description.contains("the host \"host.invalid\" has no IPv4 address") == true)
        #expect(failure(opening: "inet6:8891@127.0.0.1")?.description.contains("has no IPv6 address") == true)
    }
}
