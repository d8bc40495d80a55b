import Foundation
import TestSupport
import Testing

@testable import Monitoring

@Suite struct ConnectionWatchTests {
    /// A socket that listens at an address of the loopback, at the port if one is given.
    private func listener(_ address: UInt32, port: UInt16 = 0) throws -> (descriptor: Int32, name: sockaddr_in) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = address.bigEndian
        name.sin_port = port.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                guard bind(descriptor, pointer, length) == 0, listen(descriptor, 16) == 0 else { return Int32(-1) }
                return getsockname(descriptor, pointer, &length)
            }
        }
        guard status == 0 else { throw TestFailure("no listener: \(String(cString: strerror(errno)))") }
        return (descriptor, name)
    }

    /// A connection to it: the client's end and the other one.
    private func connection(to listener: (descriptor: Int32, name: sockaddr_in)) throws -> (
        client: Int32, server: Int32
    ) {
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var name = listener.name
        let status = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(client, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw TestFailure("no connection") }
        return (client, accept(listener.descriptor, nil, nil))
    }

    @Test func connectionsToAnotherAddressAtThePortStay() throws {
        let watched = try listener(0x7f00_0001)
        let other = try listener(0x7f00_0002, port: UInt16(bigEndian: watched.name.sin_port))
        var name = watched.name
        let place = try #require(withUnsafeBytes(of: &name) { SocketName($0) })
        let ended = try connection(to: watched)
        let kept = try connection(to: other)
        let watch = ConnectionWatch(
            place: place, limits: .init(connections: 64, age: .milliseconds(1), received: 1 << 20))
        watch.start()
        // The end of the one shows that the watch has looked; two looks later it would have ended the other.
        var byte: UInt8 = 0
        #expect(recv(ended.client, &byte, 1, 0) == 0)
        usleep(700_000)
        watch.stop()
        #expect(send(kept.server, "x", 1, Int32(MSG_NOSIGNAL)) == 1)
        #expect(recv(kept.client, &byte, 1, 0) == 1)
        for descriptor in [watched.descriptor, other.descriptor, ended.client, ended.server, kept.client, kept.server] {
            close(descriptor)
        }
    }

    @Test func anyAddressTakesAllOfItsPortAndFamily() throws {
        func name(_ address: UInt32, _ port: UInt16) -> SocketName? {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_addr.s_addr = address.bigEndian
            name.sin_port = port.bigEndian
            return withUnsafeBytes(of: &name) { SocketName($0) }
        }
        let any = try #require(name(0, 8892))
        let one = try #require(name(0x7f00_0001, 8892))
        let other = try #require(name(0xc000_0201, 8892))
        let elsewhere = try #require(name(0x7f00_0001, 8891))
        #expect(any.takes(one) && any.takes(other) && one.takes(one))
        #expect(!one.takes(other) && !any.takes(elsewhere))
        #expect(withUnsafeBytes(of: sa_family_t(AF_UNIX)) { SocketName($0) } == nil)
    }
}
