import Milter

/// A part of a ``HarvestTable``: counts by client network, the least recent of which go when it is full.
struct HarvestStripe {
    /// A network's first address.
    struct Network: Hashable {
        let high, low: UInt64

        init(_ address: ClientAddress) {
            // No client has the address ::, so it can stand for unix sockets.
            (high, low) = address.octets ?? (0, 0)
        }
    }

    private struct Entry {
        let network: Network
        /// The latest part of a window that was counted in.
        var part: Int64
        /// Unknown recipients by part, of the eight up to `part`; a part's place is its number modulo 8.
        var counts: InlineArray<8, UInt32> = InlineArray(repeating: 0)
        /// The part in which the network was last told of as an offender.
        var told = Int64.min
        /// The neighbours in the order of use; `none` at the ends.
        var newer = HarvestStripe.none
        var older = HarvestStripe.none
    }

    private static let none = UInt32.max
    private static let parts: Int64 = 8

    private let capacity: Int
    private var places: [Network: UInt32] = [:]
    private var entries: [Entry] = []
    private var newest = Self.none
    private var oldest = Self.none
    /// What the numbers of the entries' parts count, in milliseconds.
    private var partLength: Int64 = 0

    init(capacity: Int) { self.capacity = min(capacity, Int(Self.none)) }

    var networks: Int { entries.count }

    var size: Int {
        entries.capacity * MemoryLayout<Entry>.stride
            + places.capacity * (MemoryLayout<Network>.stride + MemoryLayout<UInt32>.stride) * 4 / 3
    }

    /// The network's unknown recipients in the window that ends now.
    mutating func count(of network: Network, _ harvest: Policy.Harvest, _ now: Int64) -> Int {
        let part = part(harvest, now)
        guard let place = places[network] else { return 0 }
        use(place)
        return sum(entries[Int(place)], part)
    }

    /// Counts one more; whether the network is to be told of as an offender.
    mutating func add(_ network: Network, _ harvest: Policy.Harvest, _ now: Int64) -> Bool {
        let part = part(harvest, now)
        let place = place(for: network, part)
        use(place)
        return advance(&entries[Int(place)], part, limit: harvest.limit)
    }

    private func advance(_ entry: inout Entry, _ part: Int64, limit: Int) -> Bool {
        // Two threads may come in another order than their clocks.
        let part = max(part, entry.part)
        if part - entry.part >= Self.parts {
            entry.counts = InlineArray(repeating: 0)
        } else {
            var passed = entry.part
            while passed < part {
                passed += 1
                entry.counts[Int(passed & (Self.parts - 1))] = 0
            }
        }
        entry.part = part
        let slot = Int(part & (Self.parts - 1))
        if entry.counts[slot] < .max { entry.counts[slot] += 1 }
        guard sum(entry, part) >= limit, entry.told == .min || part - entry.told >= Self.parts else { return false }
        entry.told = part
        return true
    }

    /// The parts that the window touches: the one that has begun, and seven before it.
    private func sum(_ entry: Entry, _ part: Int64) -> Int {
        let first = max(part, entry.part) - (Self.parts - 1)
        var sum = 0
        var number = entry.part
        while number >= first {
            sum += Int(entry.counts[Int(number & (Self.parts - 1))])
            number -= 1
        }
        return sum
    }

    /// The number of the part that has begun. Under a window of another length the former counts mean nothing.
    private mutating func part(_ harvest: Policy.Harvest, _ now: Int64) -> Int64 {
        let length = max(1, (Int64(harvest.window) * 1_000 + Self.parts - 2) / (Self.parts - 1))
        if length != partLength {
            places.removeAll()
            entries.removeAll()
            newest = Self.none
            oldest = Self.none
            partLength = length
        }
        return now / length
    }

    // MARK: The order of use

    private mutating func place(for network: Network, _ part: Int64) -> UInt32 {
        if let place = places[network] { return place }
        let place: UInt32
        if entries.count < capacity {
            place = UInt32(truncatingIfNeeded: entries.count)
            entries.append(Entry(network: network, part: part))
        } else {
            place = oldest
            unlink(place)
            places[entries[Int(place)].network] = nil
            entries[Int(place)] = Entry(network: network, part: part)
        }
        places[network] = place
        link(place)
        return place
    }

    private mutating func use(_ place: UInt32) {
        guard place != newest else { return }
        unlink(place)
        link(place)
    }

    private mutating func unlink(_ place: UInt32) {
        let (newer, older) = (entries[Int(place)].newer, entries[Int(place)].older)
        if newer == Self.none { newest = older } else { entries[Int(newer)].older = older }
        if older == Self.none { oldest = newer } else { entries[Int(older)].newer = newer }
    }

    private mutating func link(_ place: UInt32) {
        entries[Int(place)].newer = Self.none
        entries[Int(place)].older = newest
        if newest == Self.none { oldest = place } else { entries[Int(newest)].newer = place }
        newest = place
    }
}
