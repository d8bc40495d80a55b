import Foundation
import Glibc
import Synchronization
import System
import TestSupport

@testable import RecipientSources

/// An LDAP server on a port of 127.0.0.1 that sends given answers, one a request whatever it asks, and is silent from
/// then on.
///
/// It never closes a connection.
final class SilentServer: Sendable {
    private struct State {
        var requests = 0
        var connections: [Int32] = []
    }

    let port: UInt16
    private let listener: Int32
    private let answers: [[UInt8]]
    private let state = Mutex(State())

    /// - Parameter answers: the answers on each connection; each may be several messages or a part of one.
    init(_ answers: [[UInt8]] = []) throws {
        self.answers = answers
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let (descriptor, length) = (listener, size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && listen(descriptor, 16) == 0
                    && getsockname(descriptor, pointer, &size) == 0
            }
        }
        guard status else { throw TestFailure("no server: \(String(cString: strerror(errno)))") }
        port = UInt16(bigEndian: address.sin_port)
        NamedThread.start("server") { [self] in
            while true {
                let connection = accept(descriptor, nil, nil)
                guard connection >= 0 else { return }
                state.withLock { $0.connections.append(connection) }
                NamedThread.start("connection") { [self] in serve(connection) }
            }
        }
    }

    /// Stops the server and closes all connections.
    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        state.withLock { state in
            for connection in state.connections { shutdown(connection, Int32(SHUT_RDWR)) }
        }
    }

    /// How many requests it has received, over all connections.
    var requests: Int { state.withLock { $0.requests } }

    private func serve(_ connection: Int32) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var next = 0
        while read(connection, &buffer, buffer.count) > 0 {
            state.withLock { $0.requests += 1 }
            guard next < answers.count else { continue }
            var sent = 0
            while sent < answers[next].count {
                let count = answers[next][sent...].withUnsafeBytes {
                    send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
                guard count > 0 else { break }
                sent += count
            }
            next += 1
        }
    }

    // MARK: Messages (RFC 4511)

    /// A successful result.
    ///
    /// - Parameter tag: of the response: 0x61 bind, 0x65 search, 0x78 extended.
    static func success(_ id: Int32, _ tag: UInt8, controls: [UInt8] = []) -> [UInt8] {
        BER.sequence(
            BER.integer(id), BER.element(tag, BER.enumerated(0) + BER.octets([]) + BER.octets([])), controls)
    }

    static func entry(_ id: Int32, _ dn: String, _ attributes: [(String, [[UInt8]])]) -> [UInt8] {
        let list = attributes.map { name, values in
            BER.sequence(BER.octets(name.utf8), BER.element(BER.set, values.flatMap { BER.octets($0) }))
        }
        return BER.sequence(
            BER.integer(id), BER.element(0x64, BER.octets(dn.utf8) + BER.element(BER.sequence, list.flatMap { $0 })))
    }

    /// The root DSE of a server.
    static func root(_ id: Int32) -> [UInt8] {
        entry(id, "", [("namingContexts", [Array("dc=example,dc=com".utf8)])]) + success(id, 0x65)
    }
}
