import Foundation
import TestSupport
import Testing

@testable import System

@Suite struct IPAddressTests {
    @Test func `an address has the canonical text of the table`() throws {
        let table = try caseFields("addresses.cases")
        #expect(table.count > 30)
        for fields in table {
            let address = try? IPAddress(fields[0])
            #expect(address?.description ?? "error" == fields[1], "\(fields[0])")
        }
    }

    @Test func `the error quotes the text and names the accepted forms`() {
        #expect { try IPAddress("192.0.2") } throws: { error in
            "\(error)" == "\"192.0.2\" is not an IP address; accepted: 192.0.2.1 or 2001:db8::1"
        }
        #expect(IPAddress.parse("192.0.2.1\0") == nil)
    }

    @Test func `the text of an address is the system's, and is read back`() throws {
        var generator = SeededGenerator.announced("addresses")
        for _ in 0..<2_000 {
            // Few bits set, so that there are runs of zero groups.
            let mask = generator.next() & generator.next()
            let address = IPAddress(high: generator.next() & mask & generator.next(), low: generator.next() & mask)
            #expect(IPAddress.parse(address.description) == address)
            guard address.high != 0 else { continue }
            var octets = [address.high.bigEndian, address.low.bigEndian]
            var text = [CChar](repeating: 0, count: 64)
            inet_ntop(AF_INET6, &octets, &text, 64)
            #expect(
                String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                    == address.description)
        }
    }

    @Test func `an address is read from a socket address`() throws {
        var ipv4 = sockaddr_in()
        ipv4.sin_family = sa_family_t(AF_INET)
        ipv4.sin_addr.s_addr = UInt32(0xc000_0201).bigEndian
        #expect(address(of: &ipv4) == IPAddress(ipv4: 0xc000_0201))
        var ipv6 = sockaddr_in6()
        ipv6.sin6_family = sa_family_t(AF_INET6)
        inet_pton(AF_INET6, "2001:db8::1", &ipv6.sin6_addr)
        #expect(address(of: &ipv6) == IPAddress(high: 0x2001_0db8 << 32, low: 1))
        inet_pton(AF_INET6, "::ffff:192.0.2.1", &ipv6.sin6_addr)
        #expect(address(of: &ipv6) == IPAddress(ipv4: 0xc000_0201))
        var unix = sockaddr_un()
        unix.sun_family = sa_family_t(AF_UNIX)
        #expect(address(of: &unix) == nil)
        unix.sun_family = 77
        #expect(address(of: &unix) == nil)
        #expect(IPAddress(nil as UnsafePointer<sockaddr>?) == nil)
    }

    private func address<Address>(of address: inout Address) -> IPAddress? {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { IPAddress($0) }
        }
    }

    @Test func `a mask keeps the leading bits`() throws {
        let ipv4 = try IPAddress("203.0.113.255")
        #expect(ipv4.masked(ipv4Prefix: 24, ipv6Prefix: 0).description == "203.0.113.0")
        #expect(ipv4.masked(ipv4Prefix: 32, ipv6Prefix: 0) == ipv4)
        #expect(ipv4.masked(ipv4Prefix: 0, ipv6Prefix: 128).description == "0.0.0.0")
        #expect(ipv4.masked(ipv4Prefix: -5, ipv6Prefix: 0).description == "0.0.0.0")
        #expect(ipv4.masked(ipv4Prefix: 500, ipv6Prefix: 0) == ipv4)
        let ipv6 = try IPAddress("2001:db8:1:2:3:4:5:6")
        #expect(ipv6.masked(ipv4Prefix: 0, ipv6Prefix: 64).description == "2001:db8:1:2::")
        #expect(ipv6.masked(ipv4Prefix: 0, ipv6Prefix: 48).description == "2001:db8:1::")
        #expect(ipv6.masked(ipv4Prefix: 0, ipv6Prefix: 80).description == "2001:db8:1:2:3::")
        #expect(ipv6.masked(ipv4Prefix: 0, ipv6Prefix: 128) == ipv6)
        #expect(ipv6.masked(ipv4Prefix: 32, ipv6Prefix: 0).description == "::")
        #expect(IPAddress.unspecified.masked(ipv4Prefix: 8, ipv6Prefix: 8) == .unspecified)
    }

    @Test func `an IPv4 address is the IPv4-mapped IPv6 address`() throws {
        let address = try IPAddress("192.0.2.1")
        #expect((address.high, address.low) == (0, 0xffff_c000_0201))
        #expect(address.isIPv4 && address == IPAddress(ipv4: 0xc000_0201))
        #expect(!IPAddress.unspecified.isIPv4 && IPAddress.unspecified.isUnspecified && !address.isUnspecified)
    }
}

@Suite struct IPNetworkTests {
    @Test func `a network contains the addresses of the table`() throws {
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

    @Test func `an address is in its own network only`() throws {
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

    @Test func `the range of a network is its first and last address`() throws {
        #expect(try IPNetwork("192.0.2.0/24").range == IPAddress("192.0.2.0")...IPAddress("192.0.2.255"))
        #expect(try IPNetwork("192.0.2.1").range == IPAddress("192.0.2.1")...IPAddress("192.0.2.1"))
        #expect(try IPNetwork("0.0.0.0/0").range == IPAddress("0.0.0.0")...IPAddress("255.255.255.255"))
        #expect(
            try IPNetwork("2001:db8::/65").range == IPAddress("2001:db8::")...IPAddress("2001:db8::7fff:ffff:ffff:ffff")
        )
        #expect(try IPNetwork("::/0").range == .unspecified...IPAddress(high: .max, low: .max))
    }

    @Test func `a network of one address is shown without its prefix`() throws {
        #expect(try IPNetwork("192.0.2.1/32").shortDescription == "192.0.2.1")
        #expect(try IPNetwork("2001:db8::1").shortDescription == "2001:db8::1")
        #expect(try IPNetwork("192.0.2.0/31").shortDescription == "192.0.2.0/31")
    }
}
