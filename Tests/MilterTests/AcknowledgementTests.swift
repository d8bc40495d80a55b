import Foundation
import System
import TestSupport
import Testing

@testable import Milter

/// TCP connections of an MTA that writes the head and the data of a packet one after the other, as Sendmail does.
///
/// The kernel counts delayed acknowledgements for each network namespace, so the test creates one.
@Suite(.enabled(if: geteuid() == 0 && OwnNetwork.isAvailable, "a network namespace of one's own needs root"))
struct AcknowledgementTests {
    /// Sends many recipients; returns the number of delayed acknowledgements.
    private func delayedAcknowledgements(version: String, recipients: Int) throws -> Int {
        try OwnNetwork.run {
            let port: UInt16 = 8891
            let filter = try FilterProcess.serving("inet:\(port)@127.0.0.1")
            let connection = try MTAConnection(port: port, likeSendmail: true)
            _ = try connection.negotiate()
            connection.begin(version: version)
            for _ in 0..<recipients {
                connection.sendMacros("R", ["i", "1"])
                guard try connection.recipient("<reject@test>").command == "y" else {
                    throw TestFailure("another answer than a refusal")
                }
            }
            withExtendedLifetime(filter) {}
            return try OwnNetwork.counter("DelayedACKs")
        }
    }

    /// Without `TCP_QUICKACK`, each of the 40 recipients causes at least one delayed acknowledgement.
    @Test(arguments: ["8.17.1.9", "Postfix 3.7.11"])
    func `an MTA that writes packets in pieces waits for no acknowledgement`(_ version: String) throws {
        let delayed = try delayedAcknowledgements(version: version, recipients: 40)
        #expect(delayed < 10)
    }
}

/// A network namespace of one thread, with a loopback interface only.
private enum OwnNetwork {
    static let isAvailable = (try? run {}) != nil

    /// Runs the body on a new thread; processes that it starts share the namespace.
    static func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) throws -> Result {
        let outcome = Outcome<Result>()
        let thread = NamedThread.start("network") {
            outcome.result = Swift.Result {
                try enter()
                return try body()
            }
        }
        thread.waitForEnd()
        guard let result = outcome.result else { throw TestFailure("the thread has no result") }
        return try result.get()
    }

    /// Set by the thread, read after its end.
    private final class Outcome<Result>: @unchecked Sendable {
        var result: Swift.Result<Result, any Error>?
    }

    /// `unshare(CLONE_NEWNET)`, which Swift doesn't import, and a loopback that is up.
    private static func enter() throws {
        typealias Unshare = @convention(c) (Int32) -> Int32
        guard let symbol = dlsym(nil, "unshare"), unsafeBitCast(symbol, to: Unshare.self)(0x4000_0000) == 0 else {
            throw TestFailure("unshare: \(String(cString: strerror(errno)))")
        }
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(descriptor) }
        // struct ifreq: sixteen bytes of name, then the flags.
        var request = [UInt8](repeating: 0, count: 40)
        request.replaceSubrange(0..<2, with: "lo".utf8)
        request[16] = UInt8(IFF_UP)
        guard ioctl(descriptor, UInt(SIOCSIFFLAGS), &request) == 0 else {
            throw TestFailure("lo: \(String(cString: strerror(errno)))")
        }
    }

    /// A counter of the calling thread's namespace in `netstat`.
    static func counter(_ name: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/thread-self/net/netstat", encoding: .utf8)
        let lines = text.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0.first == "TcpExt:" }
        guard lines.count == 2, let column = lines[0].firstIndex(where: { $0 == name }), column < lines[1].count,
            let value = Int(lines[1][column])
        else { throw TestFailure("netstat doesn't know \(name)") }
        return value
    }
}
