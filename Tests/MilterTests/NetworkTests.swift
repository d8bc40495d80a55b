import TestSupport
import Testing

@testable import Milter

@Suite struct NetworkTests {
    @Test func table() throws {
        let table = try cases("networks.cases")
        #expect(table.count > 25)
        for fields in table {
            if fields[1] == "error" {
                #expect("\(fields[0])") { try Network(fields[0]) } throws: { error in
                    "\(error)".contains(fields[2]) && "\(error)".hasPrefix("\"\(fields[0])\"")
                }
                continue
            }
            let network = try Network(fields[0])
            #expect(network.description == fields[1])
            #expect(network.contains(try address(fields[2])), "\(fields)")
            #expect(!network.contains(try address(fields[3])), "\(fields)")
        }
    }

    private func address(_ text: String) throws -> ClientAddress {
        text == "unix" ? .unix : try ClientAddress(text)
    }

    @Test func anAddressIsInItsOwnNetworkOnly() throws {
        var generator = SeededGenerator.announced("networks")
        for _ in 0..<2_000 {
            let prefix = Int.random(in: 1...128, using: &generator)
            let address = ClientAddress.ipv6(high: generator.next() | 1 << 63, low: generator.next())
            let base = address.masked(ipv4Prefix: 0, ipv6Prefix: prefix)
            let network = try Network("\(base)/\(prefix)")
            #expect(network.contains(address))
            guard case .ipv6(let high, let low) = address else { continue }
            let other: ClientAddress =
                prefix <= 64
                ? .ipv6(high: high ^ 1 << UInt64(64 - prefix), low: low)
                : .ipv6(high: high, low: low ^ 1 << UInt64(128 - prefix))
            #expect(!network.contains(other), "\(network) \(other)")
        }
    }
}
