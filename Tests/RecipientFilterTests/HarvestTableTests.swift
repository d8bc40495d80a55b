import Milter
import System
import TestSupport
import Testing

@testable import RecipientFilter

@Suite struct HarvestTableTests {
    private let limit = harvest(limit: 10, window: 70)

    private static func harvest(limit: Int, window: Int) -> Policy.Harvest {
        var harvest = Policy.Harvest()
        harvest.limit = limit
        harvest.window = window
        return harvest
    }

    @Test func limitHoldsForTheNetworkAndClearsWithTheWindow() throws {
        let table = HarvestTable()
        let client = try IPAddress("2001:db8::1")
        let neighbour = try IPAddress("2001:db8::2")
        let stranger = try IPAddress("2001:db8:0:1::1")
        for count in 0..<10 {
            #expect(!table.isOver(client, limit: limit, now: 1_000_000), "after \(count)")
            table.countUnknown(of: client, limit: limit, now: 1_000_000)
        }
        #expect(table.isOver(client, limit: limit, now: 1_000_000))
        #expect(table.isOver(neighbour, limit: limit, now: 1_069_999))
        #expect(!table.isOver(stranger, limit: limit, now: 1_000_000))
        #expect(!table.isOver(client, limit: limit, now: 1_080_000))
    }

    /// One abuser among a provider's customers: the network is over the limit only while most of its recipients are unknown.
    @Test func knownRecipientsOutweighUnknownOnes() throws {
        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        #expect(table.state(of: client, limit: limit, now: 1_000_000) == .notSeen)
        table.countUnknown(of: client, limit: limit, now: 1_000_000)
        #expect(table.state(of: client, limit: limit, now: 1_000_000) == .belowLimit)
        for _ in 0..<20 { table.countKnown(of: client, limit: limit, now: 1_000_000) }
        for _ in 0..<19 { table.countUnknown(of: client, limit: limit, now: 1_000_000) }
        #expect(!table.isOver(client, limit: limit, now: 1_000_000))
        #expect(table.drainOffenders().offenders.isEmpty)
        table.countUnknown(of: client, limit: limit, now: 1_000_000)
        #expect(table.isOver(client, limit: limit, now: 1_000_000))
        #expect(table.drainOffenders().offenders.count == 1)
        table.countKnown(of: client, limit: limit, now: 1_000_000)
        #expect(!table.isOver(client, limit: limit, now: 1_000_000))
        // The known ones leave the window as the unknown ones do.
        for _ in 0..<10 { table.countUnknown(of: client, limit: limit, now: 1_100_000) }
        #expect(table.isOver(client, limit: limit, now: 1_100_000))
    }

    /// Recipients that were counted as unknown and are in a later list no longer count.
    @Test func recipientsOfALaterListAreForgiven() throws {
        let table = HarvestTable()
        let innocent = try IPAddress("192.0.2.1")
        let guesser = try IPAddress("192.0.2.2")
        func count(_ client: IPAddress, _ recipient: String, now: Int64) {
            var recipient = recipient
            recipient.withUTF8 { table.countUnknown($0, of: client, limit: limit, now: now) }
        }
        for number in 0..<10 {
            count(innocent, "real\(number)@example.com", now: 1_000_000)
            count(guesser, "guess\(number)@example.com", now: 1_000_000)
        }
        #expect(table.isOver(innocent, limit: limit, now: 1_000_000))
        for _ in 0..<2 {
            table.forgive { !String(decoding: $0, as: UTF8.self).hasPrefix("real") }
            #expect(!table.isOver(innocent, limit: limit, now: 1_000_000))
            #expect(table.isOver(guesser, limit: limit, now: 1_000_000))
        }
        // A recipient is forgiven once: ten known recipients outweigh nine more unknown ones, but not eleven.
        for number in 0..<10 { count(innocent, "wrong\(number)@example.com", now: 1_000_000) }
        #expect(!table.isOver(innocent, limit: limit, now: 1_000_000))
        count(innocent, "wrong@example.com", now: 1_000_000)
        #expect(table.isOver(innocent, limit: limit, now: 1_000_000))
    }

    /// A limited number of recipients is remembered; forgiving old ones doesn't change a newer window.
    @Test func `a limited number of the latest unknown recipients is kept`() throws {
        var recent = RecentUnknownRecipients()
        let network = try IPAddress("192.0.2.1")
        var expected: [String] = []
        var random = SeededGenerator(seed: 11)
        for number in 0..<5_000 {
            let key =
                "\(number)" + String(repeating: "x", count: Int.random(in: 0...300, using: &random)) + "@example.com"
            expected.append(key)
            Array(key.utf8).withUnsafeBufferPointer { recent.append($0, of: network, part: Int64(number)) }
        }
        let all = recent.all.sorted { $0.part < $1.part }
        #expect(all.count > 60 && all.count <= 512)
        #expect(all.map { String(decoding: $0.key, as: UTF8.self) } == Array(expected.suffix(all.count)))
        #expect(recent.remove(all[0]) && !recent.remove(all[0]))
        #expect(recent.all.count == all.count - 1)
        #expect(recent.size < 65_536)

        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        for _ in 0..<9 {
            Array("old@example.com".utf8).withUnsafeBufferPointer {
                table.countUnknown($0, of: client, limit: limit, now: 1_000_000)
            }
        }
        for _ in 0..<10 { table.countUnknown(of: client, limit: limit, now: 1_200_000) }
        table.forgive { _ in false }
        #expect(table.isOver(client, limit: limit, now: 1_200_000))
    }

    /// The window slides: recipients at the end of one window length count in the next.
    @Test func windowSlidesWithoutAReset() throws {
        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        for _ in 0..<5 { table.countUnknown(of: client, limit: limit, now: 1_049_999) }
        for _ in 0..<4 { table.countUnknown(of: client, limit: limit, now: 1_050_001) }
        #expect(!table.isOver(client, limit: limit, now: 1_050_001))
        table.countUnknown(of: client, limit: limit, now: 1_119_000)
        #expect(table.isOver(client, limit: limit, now: 1_119_000))
        #expect(!table.isOver(client, limit: limit, now: 1_131_000))
    }

    /// Against a list of all events: a network is over the limit if it exceeds it in a window, and only if it exceeds it in a seventh more.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func agreesWithAListOfAllEvents(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let table = HarvestTable()
        let clients = try (1...5).map { try IPAddress("192.0.2.\($0)") }
        var events: [[Int64]] = Array(repeating: [], count: clients.count)
        var now: Int64 = 5_000_000
        var refused = 0
        var clear = 0
        for _ in 0..<20_000 {
            now += Int64.random(in: 0...(random.next() % 50 == 0 ? 90_000 : 3_000), using: &random)
            let index = Int.random(in: clients.indices, using: &random)
            let isOver = table.isOver(clients[index], limit: limit, now: now)
            let inWindow = events[index].count { $0 > now - 70_000 }
            let inLonger = events[index].count { $0 > now - 80_000 }
            if inWindow >= 10 { #expect(isOver, "seed \(seed), at \(now): \(inWindow)") }
            if inLonger < 10 { #expect(!isOver, "seed \(seed), at \(now): \(inLonger)") }
            if isOver { refused += 1 } else { clear += 1 }
            // Some pass although the limit is reached: sessions judged at the same moment.
            if !isOver || random.next() % 20 == 0 {
                table.countUnknown(of: clients[index], limit: limit, now: now)
                events[index].append(now)
            }
        }
        #expect(refused > 1_000 && clear > 1_000, "\(refused), \(clear)")
    }

    /// Against a list in the order of use.
    @Test(arguments: [4, 5] as [UInt64])
    func leastRecentlyUsedNetworksAreDropped(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let table = HarvestTable(networks: 50, stripes: 1)
        var model: [UInt32] = []
        var counts: [UInt32: Int] = [:]
        for _ in 0..<20_000 {
            let number = UInt32.random(in: 1...80, using: &random)
            let client = IPAddress(ipv4: number)
            if random.next() % 3 == 0 {
                let isOver = table.isOver(client, limit: limit, now: 1_000)
                #expect(isOver == (counts[number, default: 0] >= 10), "seed \(seed), \(number)")
                guard let place = model.firstIndex(of: number) else { continue }
                model.remove(at: place)
            } else {
                table.countUnknown(of: client, limit: limit, now: 1_000)
                counts[number, default: 0] += 1
                if let place = model.firstIndex(of: number) { model.remove(at: place) }
                if model.count == 50 { counts[model.removeFirst()] = nil }
            }
            model.append(number)
            #expect(table.networks == model.count, "seed \(seed)")
        }
        #expect(model.count == 50)
    }

    @Test func limitZeroTurnsCountingOff() throws {
        let off = Self.harvest(limit: 0, window: 70)
        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        for _ in 0..<100 { table.countUnknown(of: client, limit: off, now: 1) }
        #expect(!table.isOver(client, limit: off, now: 1))
        #expect(table.networks == 0)
    }

    @Test func changedWindowDropsAllCounts() throws {
        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        for _ in 0..<10 { table.countUnknown(of: client, limit: limit, now: 1_000_000) }
        let longer = Self.harvest(limit: 10, window: 3_600)
        #expect(!table.isOver(client, limit: longer, now: 1_000_000))
        for _ in 0..<10 { table.countUnknown(of: client, limit: longer, now: 1_000_000) }
        #expect(table.isOver(client, limit: longer, now: 1_900_000))
    }

    /// A full table doesn't grow, so a million networks take no more memory.
    @Test func anyNumberOfNetworksFitsIn64MiB() throws {
        let table = HarvestTable()
        let regular = try IPAddress("198.51.100.1")
        #expect(table.size < 100_000)
        for number in 0..<300_000 as Range<UInt64> {
            table.countUnknown(of: IPAddress(high: 0x2001_0db8_0000_0000 | number, low: 1), limit: limit, now: 50)
            if number % 10_000 == 0 { table.countUnknown(of: regular, limit: limit, now: 50) }
        }
        #expect(table.networks <= 262_144)
        // 64 stripes fill up one a little before the other.
        #expect(table.networks > 250_000)
        #expect(table.size < 64 << 20, "\(table.size)")
        #expect(table.isOver(regular, limit: limit, now: 50))
    }

    @Test func eachOffenderIsReportedOnceInAWindow() throws {
        let table = HarvestTable()
        let client = try IPAddress("192.0.2.1")
        let other = try IPAddress("2001:db8:0:7::9")
        for _ in 0..<9 { table.countUnknown(of: client, limit: limit, now: 1_000_000) }
        #expect(table.drainOffenders().offenders.isEmpty)
        for _ in 0..<5 { table.countUnknown(of: client, limit: limit, now: 1_000_000) }
        for _ in 0..<12 { table.countUnknown(of: other, limit: limit, now: 1_000_000) }
        let reported = table.drainOffenders()
        let networks = reported.offenders.map { $0.network.map { "\($0)" } ?? "-" }
        #expect(networks == ["192.0.2.1/32", "2001:db8:0:7::/64"])
        #expect(reported.omitted == 0)
        table.countUnknown(of: client, limit: limit, now: 1_060_000)
        #expect(table.drainOffenders().offenders.isEmpty)
        for _ in 0..<10 { table.countUnknown(of: client, limit: limit, now: 1_090_000) }
        #expect(table.drainOffenders().offenders.count == 1)
    }

    @Test func offendersBeyondTheReportAreCounted() {
        let table = HarvestTable()
        for number in 1...150 as ClosedRange<UInt32> {
            for _ in 0..<10 { table.countUnknown(of: IPAddress(ipv4: number), limit: limit, now: 1) }
        }
        let reported = table.drainOffenders()
        #expect(reported.offenders.count == 100)
        #expect(reported.omitted == 50)
        #expect(table.drainOffenders().omitted == 0)
    }

    @Test func concurrentThreadsLoseNoCount() {
        let table = HarvestTable()
        let high = Self.harvest(limit: 40_000, window: 70)
        onThreads(4) { _ in
            for _ in 0..<10_000 { table.countUnknown(of: IPAddress(ipv4: 7), limit: high, now: 1_000) }
        }
        #expect(table.isOver(IPAddress(ipv4: 7), limit: high, now: 1_000))
        #expect(!table.isOver(IPAddress(ipv4: 7), limit: Self.harvest(limit: 40_001, window: 70), now: 1_000))
        #expect(table.drainOffenders().offenders.count == 1)
    }
}
