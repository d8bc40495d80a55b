import System

/// A part of a ``HarvestTable``: counts by client network, the least recent of which go when it is full.
struct HarvestStripe {
    private struct Entry {
        let network: IPAddress
        /// The latest part of a window that was counted in.
        var part: Int64
        /// Unknown recipients by part, of the eight up to `part`; a part's place is its number modulo 8.
        var counts: InlineArray<8, UInt32> = InlineArray(repeating: 0)
        /// Known recipients by part, likewise.
        var known: InlineArray<8, UInt32> = InlineArray(repeating: 0)
        /// The part in which the network was last told of as an offender.
        var told = Int64.min
        /// The neighbours in the order of use; `none` at the ends.
        var newer = HarvestStripe.none
        var older = HarvestStripe.none
    }

    private static let none = UInt32.max
    private static let parts: Int64 = 8

    private let capacity: Int
    private var places: [IPAddress: UInt32] = [:]
    private var entries: [Entry] = []
    private var newest = Self.none
    private var oldest = Self.none
    /// What the numbers of the entries' parts count, in milliseconds.
    private var partLength: Int64 = 0
    /// The unknown recipients that were counted last.
    private(set) var recent = RecentRecipients()

    init(capacity: Int) { self.capacity = min(capacity, Int(Self.none)) }

    var networks: Int { entries.count }

    var size: Int {
        entries.capacity * MemoryLayout<Entry>.stride
            + places.capacity * (MemoryLayout<IPAddress>.stride + MemoryLayout<UInt32>.stride) * 4 / 3
            + recent.size
    }

    /// Where the network stands in the window that ends now.
    mutating func standing(of network: IPAddress, _ harvest: Policy.Harvest, _ now: Int64) -> HarvestTable.Standing {
        let part = part(harvest, now)
        guard let place = places[network] else { return .unseen }
        use(place)
        return isOver(entries[Int(place)], part, harvest.limit) ? .over : .below
    }

    /// Counts one unknown recipient more; whether the network is to be reported as an offender.
    ///
    /// - Parameter key: the recipient's, for ``forget(_:)``.
    mutating func add(
        _ network: IPAddress, _ key: UnsafeBufferPointer<UInt8>, _ harvest: Policy.Harvest, _ now: Int64
    ) -> Bool {
        let part = part(harvest, now)
        let place = place(for: network, part)
        use(place)
        advance(&entries[Int(place)], part)
        let current = entries[Int(place)].part
        let slot = Int(current & (Self.parts - 1))
        if entries[Int(place)].counts[slot] < .max { entries[Int(place)].counts[slot] += 1 }
        recent.append(key, of: network, part: current)
        let told = entries[Int(place)].told
        guard isOver(entries[Int(place)], current, harvest.limit), told == .min || current - told >= Self.parts else {
            return false
        }
        entries[Int(place)].told = current
        return true
    }

    /// Counts one known recipient more, of a network that has asked for unknown ones.
    mutating func addKnown(_ network: IPAddress, _ harvest: Policy.Harvest, _ now: Int64) {
        let part = part(harvest, now)
        guard let place = places[network] else { return }
        advance(&entries[Int(place)], part)
        let slot = Int(entries[Int(place)].part & (Self.parts - 1))
        if entries[Int(place)].known[slot] < .max { entries[Int(place)].known[slot] += 1 }
    }

    /// Takes back what was counted for a recipient that exists: it counts as a known one.
    mutating func forget(_ recipient: RecentRecipients.Recipient) {
        guard recent.remove(recipient), let place = places[recipient.network] else { return }
        let slot = Int(recipient.part & (Self.parts - 1))
        guard entries[Int(place)].part - recipient.part < Self.parts, recipient.part <= entries[Int(place)].part,
            entries[Int(place)].counts[slot] > 0
        else { return }
        entries[Int(place)].counts[slot] -= 1
        if entries[Int(place)].known[slot] < .max { entries[Int(place)].known[slot] += 1 }
    }

    /// Brings an entry to a part; two threads may come in another order than their clocks.
    private func advance(_ entry: inout Entry, _ part: Int64) {
        guard part > entry.part else { return }
        if part - entry.part >= Self.parts {
            entry.counts = InlineArray(repeating: 0)
            entry.known = InlineArray(repeating: 0)
        } else {
            var passed = entry.part
            while passed < part {
                passed += 1
                entry.counts[Int(passed & (Self.parts - 1))] = 0
                entry.known[Int(passed & (Self.parts - 1))] = 0
            }
        }
        entry.part = part
    }

    /// Whether the network has asked for too many unknown recipients, and for more of them than of known ones: in the parts that the window
    /// touches, the one that has begun, and seven before it.
    private func isOver(_ entry: Entry, _ part: Int64, _ limit: Int) -> Bool {
        let first = max(part, entry.part) - (Self.parts - 1)
        var unknown = 0
        var known = 0
        var number = entry.part
        while number >= first {
            unknown += Int(entry.counts[Int(number & (Self.parts - 1))])
            known += Int(entry.known[Int(number & (Self.parts - 1))])
            number -= 1
        }
        return unknown >= limit && unknown > known
    }

    /// The number of the part that has begun. Under a window of another length the former counts mean nothing.
    private mutating func part(_ harvest: Policy.Harvest, _ now: Int64) -> Int64 {
        let length = max(1, (Int64(harvest.window) * 1_000 + Self.parts - 2) / (Self.parts - 1))
        if length != partLength {
            places.removeAll()
            entries.removeAll()
            recent = RecentRecipients()
            newest = Self.none
            oldest = Self.none
            partLength = length
        }
        return now / length
    }

    // MARK: The order of use

    private mutating func place(for network: IPAddress, _ part: Int64) -> UInt32 {
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

/// The unknown recipients that were counted last in a ``HarvestStripe``, in bounded memory: one that turns out to exist was no guess.
struct RecentRecipients {
    /// A recipient that was counted.
    struct Recipient {
        /// The client network that asked for it.
        let network: IPAddress
        /// The part of the window that it was counted in.
        let part: Int64
        /// Its canonical address.
        let key: [UInt8]
        /// Its number among all.
        fileprivate let number: Int
    }

    private struct Record {
        let network: IPAddress
        /// Nil once it is taken back.
        var part: Int64?
        /// The place of its first byte in all that was ever written.
        let start: Int
        let length: Int
        let number: Int
    }

    private static let recordCount = 512
    /// Room for the addresses: 32 bytes each on the average.
    private static let byteCount = 16_384

    /// By the number modulo ``recordCount``; empty until the first recipient comes.
    private var records: [Record?] = []
    private var bytes: [UInt8] = []
    /// How many recipients, and how many bytes of them, were ever written.
    private var count = 0
    private var written = 0

    /// The memory that it takes, in bytes.
    var size: Int { records.capacity * MemoryLayout<Record?>.stride + bytes.capacity }

    /// Remembers a recipient in the place of the oldest ones.
    mutating func append(_ key: UnsafeBufferPointer<UInt8>, of network: IPAddress, part: Int64) {
        guard !key.isEmpty, key.count <= 512 else { return }
        if records.isEmpty {
            records = Array(repeating: nil, count: Self.recordCount)
            bytes = Array(repeating: 0, count: Self.byteCount)
        }
        bytes.withUnsafeMutableBufferPointer { bytes in
            for offset in 0..<key.count { bytes[(written &+ offset) & (Self.byteCount - 1)] = key[offset] }
        }
        records[count & (Self.recordCount - 1)] = Record(
            network: network, part: part, start: written, length: key.count, number: count)
        written &+= key.count
        count &+= 1
    }

    /// All that are remembered.
    var all: [Recipient] {
        records.compactMap { record in
            guard let record, let part = record.part, written &- record.start <= Self.byteCount else { return nil }
            let key = (0..<record.length).map { bytes[(record.start &+ $0) & (Self.byteCount - 1)] }
            return Recipient(network: record.network, part: part, key: key, number: record.number)
        }
    }

    /// Forgets a recipient; false if it was forgotten already.
    mutating func remove(_ recipient: Recipient) -> Bool {
        let place = recipient.number & (Self.recordCount - 1)
        guard !records.isEmpty, let record = records[place], record.number == recipient.number, record.part != nil
        else {
            return false
        }
        records[place]?.part = nil
        return true
    }
}
