import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// Finds the addresses of hosts without making a sync wait longer than it wants: getaddrinfo(3) can't be interrupted, so it runs on a
/// thread of its own, which is left behind if need be. A host has one such thread at most.
enum HostResolver {
    /// An address as connect(2) takes it.
    struct Address: Sendable, Equatable {
        var family: Int32
        var bytes: [UInt8]
    }

    /// The addresses of a host, or why there are none.
    typealias Result = Swift.Result<[Address], Failure>
    /// Asks the system; may take as long as it likes.
    typealias LookUp = @Sendable (_ host: String, _ port: UInt16) -> Result

    struct Failure: Error {
        let reason: String
    }

    private final class Running: Sendable {
        let result = Mutex<Result?>(nil)
    }

    private static let running = Mutex<[String: Running]>([:])

    /// - Parameter check: called several times a second; throws to give up.
    static func addresses(
        of host: String, port: UInt16, timeout: Duration, lookUp: @escaping LookUp = system,
        check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> [Address] {
        if case .success(let list) = ask(host, port, flags: AI_NUMERICHOST) { return list }
        let query = start("\(host):\(port)") { lookUp(host, port) }
        let deadline = ContinuousClock.now + timeout
        while query.result.withLock({ $0 == nil }) {
            usleep(20_000)
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else {
                throw failure(host, "no answer within \(timeout.text)")
            }
        }
        switch query.result.withLock({ $0 }) {
        case .success(let list): return list
        case .failure(let error): throw failure(host, error.reason)
        case nil: throw failure(host, "no answer")
        }
    }

    /// Goes along with a question that is being asked already.
    private static func start(_ name: String, _ work: @escaping @Sendable () -> Result) -> Running {
        running.withLock { running in
            if let known = running[name] { return known }
            let query = Running()
            running[name] = query
            NamedThread.start("resolver", stackSize: 512 << 10) {
                let result = work()
                query.result.withLock { $0 = result }
                Self.running.withLock { $0[name] = nil }
            }
            return query
        }
    }

    @Sendable private static func system(_ host: String, _ port: UInt16) -> Result { ask(host, port, flags: 0) }

    private static func ask(_ host: String, _ port: UInt16, flags: Int32) -> Result {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = flags
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        guard status == 0 else {
            return .failure(
                Failure(reason: status == EAI_SYSTEM ? systemMessage() : String(cString: gai_strerror(status))))
        }
        defer { freeaddrinfo(list) }
        var found: [Address] = []
        var next = list
        while let entry = next?.pointee {
            let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
            found.append(Address(family: entry.ai_family, bytes: Array(bytes)))
            next = entry.ai_next
        }
        return .success(found)
    }

    private static func failure(_ host: String, _ reason: String) -> LDAPError {
        LDAPSocket.failure("the name \(host) can't be resolved: \(reason)")
    }
}
