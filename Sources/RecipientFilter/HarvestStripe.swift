import System

/// A part of a ``HarvestTable``: counts by client network. When it is full, the network that was looked up least recently is dropped.
struct HarvestStripe {
    private struct Entry {
        let network: IPAddress
        /// The number of the newest part of the window that has counts.
        var part: Int64
        /// The unknown recipients in each of the eight parts up to `part`; a part's place is its number modulo 8.
        var unknown: InlineArray<8, UInt32> = InlineArray(repeating: 0)
        /// The known recipients in each of these parts.
        var known: InlineArray<8, UInt32> = InlineArray(repeating: 0)
        /// The part in which the network was last reported as an offender.
        var reported = Int64.min
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
    /// The length of a part in milliseconds.
    private var partLength: Int64 = 0
    /// The unknown recipients that were counted last.
    private(set) var recent = RecentUnknownRecipients()

    init(capacity: Int) { self.capacity = min(capacity, Int(Self.none)) }

    var networks: Int { entries.count }

    var size: Int {
        entries.capacity * MemoryLayout<Entry>.stride
            + places.capacity * (MemoryLayout<IPAddress>.stride + MemoryLayout<UInt32>.stride) * 4 / 3
            + recent.size
    }

    /// Whether the network is below or over its harvest limit in the window that ends now.
    mutating func state(of network: IPAddress, _ harvest: Policy.Harvest, now: Int64) -> HarvestTable.LimitState {
        let part = part(harvest, now)
        guard let place = places[network] else { return .notSeen }
        use(place)
        return isOver(entries[Int(place)], part, limit: harvest.limit) ? .overLimit : .belowLimit
    }

    /// Counts an unknown recipient; returns whether the network is to be reported as an offender.
    ///
    /// - Parameter key: the recipient's canonical address, for ``forgive(_:)``.
    mutating func countUnknown(
        _ key: UnsafeBufferPointer<UInt8>, of network: IPAddress, _ harvest: Policy.Harvest, now: Int64
    ) -> Bool {
        let part = part(harvest, now)
        let place = place(for: network, part)
        use(place)
        advance(&entries[Int(place)], to: part)
        let current = entries[Int(place)].part
        let slot = Int(current & (Self.parts - 1))
        if entries[Int(place)].unknown[slot] < .max { entries[Int(place)].unknown[slot] += 1 }
        recent.append(key, of: network, part: current)
        let reported = entries[Int(place)].reported
        guard isOver(entries[Int(place)], current, limit: harvest.limit),
            reported == .min || current - reported >= Self.parts
        else { return false }
        entries[Int(place)].reported = current
        return true
    }

    /// Counts a known recipient, if the network has asked for unknown ones.
    mutating func countKnown(of network: IPAddress, _ harvest: Policy.Harvest, now: Int64) {
        let part = part(harvest, now)
        guard let place = places[network] else { return }
        advance(&entries[Int(place)], to: part)
        let slot = Int(entries[Int(place)].part & (Self.parts - 1))
        if entries[Int(place)].known[slot] < .max { entries[Int(place)].known[slot] += 1 }
    }

    /// Moves a recipient from the unknown to the known count, after the index has gained it.
    mutating func forgive(_ recipient: RecentUnknownRecipients.Recipient) {
        guard recent.remove(recipient), let place = places[recipient.network] else { return }
        let slot = Int(recipient.part & (Self.parts - 1))
        guard entries[Int(place)].part - recipient.part < Self.parts, recipient.part <= entries[Int(place)].part,
            entries[Int(place)].unknown[slot] > 0
        else { return }
        entries[Int(place)].unknown[slot] -= 1
        if entries[Int(place)].known[slot] < .max { entries[Int(place)].known[slot] += 1 }
    }

    /// Begins the parts up to `part` in an entry. A thread may be overtaken by one with a later time: then nothing changes.
    private func advance(_ entry: inout Entry, to part: Int64) {
        guard part > entry.part else { return }
        if part - entry.part >= Self.parts {
            entry.unknown = InlineArray(repeating: 0)
            entry.known = InlineArray(repeating: 0)
        } else {
            var passed = entry.part
            while passed < part {
                passed += 1
                entry.unknown[Int(passed & (Self.parts - 1))] = 0
                entry.known[Int(passed & (Self.parts - 1))] = 0
            }
        }
        entry.part = part
    }

    /// Whether the network has asked for too many unknown recipients, and for more unknown than known ones, in the eight parts up to `part`.
    private func isOver(_ entry: Entry, _ part: Int64, limit: Int) -> Bool {
        let first = max(part, entry.part) - (Self.parts - 1)
        var unknown = 0
        var known = 0
        var number = entry.part
        while number >= first {
            unknown += Int(entry.unknown[Int(number & (Self.parts - 1))])
            known += Int(entry.known[Int(number & (Self.parts - 1))])
            number -= 1
        }
        return unknown >= limit && unknown > known
    }

    /// The number of the part of the window that it is now. If the length of the window has changed, all counts are dropped.
    private mutating func part(_ harvest: Policy.Harvest, _ now: Int64) -> Int64 {
        let length = max(1, (Int64(harvest.window) * 1_000 + Self.parts - 2) / (Self.parts - 1))
        if length != partLength {
            places.removeAll()
            entries.removeAll()
            recent = RecentUnknownRecipients()
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

/// The unknown recipients that were counted last in a ``HarvestStripe``, in bounded memory: to forgive those that turn out to exist.
struct RecentUnknownRecipients {
    struct Recipient {
        /// The client network that asked for the recipient.
        let network: IPAddress
        /// The part of the window in which the recipient was counted.
        let part: Int64
        /// The canonical address.
        let key: [UInt8]
        /// How many recipients were appended before this one.
        fileprivate let number: Int
    }

    private struct Record {
        let network: IPAddress
        /// Nil once the recipient was removed.
        var part: Int64?
        /// How many bytes of addresses were written before this one's.
        let start: Int
        let length: Int
        let number: Int
    }

    private static let recordCount = 512
    /// Room for addresses of 32 bytes on average.
    private static let byteCount = 16_384

    /// By a recipient's number modulo ``recordCount``; empty until the first recipient is appended.
    private var records: [Record?] = []
    private var bytes: [UInt8] = []
    /// How many recipients, and how many bytes of addresses, were ever appended.
    private var count = 0
    private var written = 0

    /// The memory of the list, in bytes.
    var size: Int { records.capacity * MemoryLayout<Record?>.stride + bytes.capacity }

    /// Appends a recipient, which overwrites the oldest ones.
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

    /// The recipients that aren't overwritten or removed.
    var all: [Recipient] {
        records.compactMap { record in
            guard let record, let part = record.part, written &- record.start <= Self.byteCount else { return nil }
            let key = (0..<record.length).map { bytes[(record.start &+ $0) & (Self.byteCount - 1)] }
            return Recipient(network: record.network, part: part, key: key, number: record.number)
        }
    }

    /// Removes a recipient; returns false if it isn't there any more.
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
