public import MailAddress
import Synchronization

/// Who has sent through this gateway as a trusted client's sender, in a relay domain, without being in the index: by address, with the day.
///
/// Reading takes no lock and allocates nothing, and neither does writing. It has room for some 30,000 addresses in 256 KiB; where it is
/// full, the one that hasn't sent for longest goes. An address is known by 60 bits of a hash with a key of the process's own. Any thread.
public final class UnlistedSenders {
    /// How many days after it last sent an address is deferred rather than rejected.
    public static let days: Int64 = 30

    private static let setCount = 4096
    private static let wayCount = 8

    /// Sets of places: in each 48 bits of the hash, then 16 of the day since 1970; 0 is an empty one.
    private let places: UnsafeMutablePointer<Atomic<UInt64>>
    /// The first day that counts.
    private let firstDay = Atomic<Int64>(0)

    /// Nobody yet.
    public init() {
        places = .allocate(capacity: Self.setCount * Self.wayCount)
        for place in 0..<Self.setCount * Self.wayCount { (places + place).initialize(to: Atomic(0)) }
    }

    deinit {
        places.deinitialize(count: Self.setCount * Self.wayCount)
        places.deallocate()
    }

    /// Takes an address down with the day, in days since 1970 (UTC), on which it sent; an earlier day than the one known changes nothing.
    ///
    /// - Parameter key: the canonical address.
    public func insert(_ key: UnsafeBufferPointer<UInt8>, day: Int64) {
        let (set, mark) = Self.home(key)
        let word = mark &<< 16 | UInt64(UInt16(clamping: day))
        // A writer that meets another one tries again; that many at one set at once there aren't.
        for _ in 0..<16 {
            var choice = (place: places + set, word: UInt64.max)
            for way in 0..<Self.wayCount {
                let place = places + (set + way)
                let found = place.pointee.load(ordering: .relaxed)
                if found &>> 16 == mark {
                    if found & 0xffff >= word & 0xffff { return }
                    choice = (place, found)
                    break
                }
                // Two threads with one address choose the same place: the first of the oldest.
                if choice.word == .max || found & 0xffff < choice.word & 0xffff { choice = (place, found) }
            }
            if choice.place.pointee.compareExchange(expected: choice.word, desired: word, ordering: .relaxed).exchanged
            {
                return
            }
        }
    }

    /// Takes an address down with the day on which it sent.
    public func insert(_ key: String, day: Int64) {
        var key = key
        key.withUTF8 { insert($0, day: day) }
    }

    /// Has addresses count that have sent within ``days`` before this day, in days since 1970.
    public func setToday(_ day: Int64) { firstDay.store(day - Self.days, ordering: .relaxed) }

    /// Whether the address has sent lately.
    public func contains(_ address: RecipientAddress) -> Bool {
        let (set, mark) = address.withKey(Self.home)
        let first = firstDay.load(ordering: .relaxed)
        for way in 0..<Self.wayCount {
            let found = places[set + way].load(ordering: .relaxed)
            if found &>> 16 == mark { return Int64(found & 0xffff) >= first }
        }
        return false
    }

    /// How many addresses have sent lately.
    public var count: Int {
        let first = firstDay.load(ordering: .relaxed)
        var count = 0
        for place in 0..<Self.setCount * Self.wayCount {
            let found = places[place].load(ordering: .relaxed)
            if found != 0, Int64(found & 0xffff) >= first { count += 1 }
        }
        return count
    }

    /// The first place of a key's set, and its mark there.
    private static func home(_ key: UnsafeBufferPointer<UInt8>) -> (set: Int, mark: UInt64) {
        var hasher = Hasher()
        hasher.combine(bytes: UnsafeRawBufferPointer(key))
        let hash = UInt64(truncatingIfNeeded: hasher.finalize())
        let mark = hash &>> 16
        return (Int(truncatingIfNeeded: hash & UInt64(setCount - 1)) * wayCount, mark == 0 ? 1 : mark)
    }
}

// What changes is atomic.
extension UnlistedSenders: @unchecked Sendable {}
