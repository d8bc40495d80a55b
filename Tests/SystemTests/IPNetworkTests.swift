import TestSupport
import Testing

@testable import System

@Suite struct IPNetworkTests {
    @Test func table() throws {
        let table = try caseFields("networks.cases")
        #expect(table.count > 25)
        for fields in table {
            if fields[1] == "error" {
                #expect("\(fields[0])") { try IPNetwork(fields[0]) } throws: { error in
                    "\(error)".contains(fields[2]) && "\(error)".hasPrefix("\"\(fields[0])\"")
                }
                continue
            }
            let network = try IPNetwork(fields[0])
            #expect(network.description == fields[1])
            #expect(network.contains(try address(fields[2])), "\(fields)")
            #expect(!network.contains(try address(fields[3])), "\(fields)")
        }
    }

    private func address(_ text: String) throws -> IPAddress {
        text == "unix" ? .unspecified : try IPAddress(text)
    }

    @Test func anAddressIsInItsOwnNetworkOnly() throws {
        var generator = SeededGenerator.announced("networks")
        for _ in 0..<2_000 {
            let prefix = Int.random(in: 1...128, using: &generator)
            let address = IPAddress(high: generator.next() | 1 << 63, low: generator.next())
            let base = address.masked(ipv4Prefix: 0, ipv6Prefix: prefix)
            let network = try IPNetwork("\(base)/\(prefix)")
            #expect(network.contains(address))
            let (high, low) = (address.high, address.low)
            let other =
                prefix <= 64
                ? IPAddress(high: high ^ 1 << UInt64(64 - prefix), low: low)
                : IPAddress(high: high, low: low ^ 1 << UInt64(128 - prefix))
            #expect(!network.contains(other), "\(network) \(other)")
            #expect(network.range.contains(address) && !network.range.contains(other))
            #expect(network == IPNetwork(of: address, ipv4Prefix: 0, ipv6Prefix: prefix))
        }
    }

    @Test func theRangeOfANetworkIsItsFirstAndLastAddress() throws {
        #expect(try IPNetwork("192.0.2.0/24").range == IPAddress("192.0.2.0")...IPAddress("192.0.2.255"))
        #expect(try IPNetwork("192.0.2.1").range == IPAddress("192.0.2.1")...IPAddress("192.0.2.1"))
        #expect(try IPNetwork("0.0.0.0/0").range == IPAddress("0.0.0.0")...IPAddress("255.255.255.255"))
        #expect(
            try IPNetwork("2001:db8::/65").range == IPAddress("2001:db8::")...IPAddress("2001:db8::7fff:ffff:ffff:ffff")
        )
        #expect(try IPNetwork("::/0").range == .unspecified...IPAddress(high: .max, low: .max))
    }

    @Test func aNetworkOfOneAddressIsShownWithoutItsPrefix() throws {
        #expect(try IPNetwork("192.0.2.1/32").shortDescription == "192.0.2.1")
        #expect(try IPNetwork("2001:db8::1").shortDescription == "2001:db8::1")
        #expect(try IPNetwork("192.0.2.0/31").shortDescription == "192.0.2.0/31")
    }
}
