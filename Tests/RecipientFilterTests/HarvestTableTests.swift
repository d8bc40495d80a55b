import Milter
import RecipientFilter
import Testing

@Suite struct HarvestTableTests {
    private let limit: Policy.Harvest = {
        var harvest = Policy.Harvest()
        harvest.limit = 10
        harvest.window = 100
        return harvest
    }()

    private func address(_ text: String) throws -> ClientAddress { try ClientAddress(text) }

    @Test func limitHoldsForTheNetworkAndClearsWithTheWindow() throws {
        let table = HarvestTable()
        let client = try address("2001:db8::1")
        let neighbour = try address("2001:db8::2")
        let stranger = try address("2001:db8:0:1::1")
        for count in 0..<10 {
            #expect(!table.isOver(client, limit: limit, now: 1000), "after \(count)")
            table.count(client, limit: limit, now: 1000)
        }
        #expect(table.isOver(client, limit: limit, now: 1000))
        #expect(table.isOver(neighbour, limit: limit, now: 1050))
        #expect(!table.isOver(stranger, limit: limit, now: 1000))
        // Half a window on, half of the previous window still counts.
        #expect(!table.isOver(client, limit: limit, now: 1150))
        #expect(!table.isOver(client, limit: limit, now: 1400))
    }

    @Test func slidingWindowCarriesThePreviousOne() throws {
        let table = HarvestTable()
        let client = try address("192.0.2.1")
        for _ in 0..<8 { table.count(client, limit: limit, now: 1090) }
        for _ in 0..<3 { table.count(client, limit: limit, now: 1101) }
        // 3 and 99 % of 8.
        #expect(table.isOver(client, limit: limit, now: 1101))
        // 3 and 10 % of 8.
        #expect(!table.isOver(client, limit: limit, now: 1190))
    }

    @Test func zeroTurnsItOff() throws {
        var off = limit
        off.limit = 0
        let table = HarvestTable()
        let client = try address("192.0.2.1")
        for _ in 0..<100 { table.count(client, limit: off, now: 1) }
        #expect(!table.isOver(client, limit: off, now: 1))
        #expect(table.networks == 0)
    }

    @Test func memoryIsBoundedAndTheRecentStay() throws {
        let table = HarvestTable(networks: 1280)
        let regular = try address("198.51.100.1")
        for number in 0..<200_000 {
            let octets = "10.\(number >> 16 & 255).\(number >> 8 & 255).\(number & 255)"
            table.count(try address(octets), limit: limit, now: 50)
            if number % 100 == 0 { table.count(regular, limit: limit, now: 50) }
        }
        #expect(table.networks <= 1280)
        #expect(table.isOver(regular, limit: limit, now: 50))
    }
}
