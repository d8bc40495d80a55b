import Foundation

/// The servers of a source in the order in which they are tried: as they are configured, but those that failed lately last.
struct ServerList {
    private struct Failure {
        var count: Int
        var until: ContinuousClock.Instant
    }

    private let servers: [LDAPURI]
    private var failures: [LDAPURI: Failure] = [:]

    init(_ servers: [LDAPURI]) { self.servers = servers }

    func ordered(at now: ContinuousClock.Instant) -> [LDAPURI] {
        func isPutAside(_ server: LDAPURI) -> Bool { failures[server].map { now < $0.until } ?? false }
        return servers.filter { !isPutAside($0) } + servers.filter(isPutAside)
    }

    mutating func succeeded(_ server: LDAPURI) { failures[server] = nil }

    /// Puts a server aside for 10 s, 20 s, 40 s … 5 minutes.
    mutating func failed(_ server: LDAPURI, at now: ContinuousClock.Instant) {
        let count = (failures[server]?.count ?? 0) + 1
        failures[server] = Failure(count: count, until: now + .seconds(min(300, 10 << min(count - 1, 5))))
    }
}
