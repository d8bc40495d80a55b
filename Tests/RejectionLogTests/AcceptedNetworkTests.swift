import Foundation
import GRDB
import System
import TestSupport
import Testing

@testable import RejectionLog

/// The client networks from which a recipient was accepted, until the writer takes them.
@Suite struct AcceptedNetworkTests {
    @Test func `a client network with accepted recipients is collected once a day`() {
        let networks = AcceptedNetworks()
        for day in 1...2 as ClosedRange<Int64> {
            for _ in 0..<5 {
                for host in 0..<200 as Range<UInt32> { networks.insert(IPAddress(ipv4: 0xC000_0200 + host), day: day) }
            }
            #expect(networks.drain() == [IPAddress(ipv4: 0xC000_0200): day])
            networks.insert(IPAddress(ipv4: 0xC000_0201), day: day)
            networks.insert(.unspecified, day: day)
            #expect(networks.drain().isEmpty)
        }
        // At most 10,000 networks wait; further ones are collected at a later recipient.
        var seen: Set<IPAddress> = []
        for _ in 0..<3 {
            for number in 0..<25_000 as Range<UInt32> { networks.insert(IPAddress(ipv4: number << 8), day: 3) }
            let drained = networks.drain()
            #expect(drained.count <= 10_000)
            seen.formUnion(drained.keys)
        }
        #expect(seen.count == 25_000)
    }
}
