public import MailAddress
import Synchronization

/// The addresses in relay domains that have sent through this gateway from trusted clients and that the index doesn't list, each with the day on
/// which it last sent.
///
/// Reading and writing take no lock and allocate nothing; any thread. There is room for some 30,000 addresses in 256 KiB; a new address takes the
/// place of the one that hasn't sent for longest. Addresses are held as 60 bits of a hash whose key is the process's own.
public final class UnlistedSenders {
    /// For how many days after it last sent an address is deferred instead of rejected.
    public static let days: Int64 = 30

    private static let setCount = 4096
    private static let wayCount = 8

    /// The sets of places. A place has 48 bits of the hash, then 16 bits of the day since 1970; 0 is a free place.
    private let places: UnsafeMutablePointer<Atomic<UInt64>>
    /// The first day on which an address must have sent to count.
    private let firstDay = Atomic<Int64>(0)

    /// No addresses.
    public init() {
        places = .allocate(capacity: Self.setCount * Self.wayCount)
        for place in 0..<Self.setCount * Self.wayCount { (places + place).initialize(to: Atomic(0)) }
    }

    deinit {
        places.deinitialize(count: Self.setCount * Self.wayCount)
        places.deallocate()
    }

    /// Adds an address, or updates the day on which it last sent.
    ///
    /// - Parameters:
    ///   - key: the canonical address.
    ///   - day: in days since 1970 (UTC); ignored if the address has a later day.
    public func insert(_ key: UnsafeBufferPointer<UInt8>, day: Int64) {
        let (set, mark) = Self.home(key)
        let word = mark &<< 16 | UInt64(UInt16(clamping: day))
        // A thread tries again if another one has changed its place. Sixteen threads never meet in one set.
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
                // Two threads with the same address choose the same place: the first of the oldest.
                if choice.word == .max || found & 0xffff < choice.word & 0xffff { choice = (place, found) }
            }
            if choice.place.pointee.compareExchange(expected: choice.word, desired: word, ordering: .relaxed).exchanged
            {
                return
            }
        }
    }

    /// Adds a canonical address, or updates the day on which it last sent, in days since 1970 (UTC).
    public func insert(_ key: String, day: Int64) {
        var key = key
        key.withUTF8 { insert($0, day: day) }
    }

    /// Sets the date: addresses count that have sent within ``days`` before this day, in days since 1970 (UTC).
    public func setToday(_ day: Int64) { firstDay.store(day - Self.days, ordering: .relaxed) }

    /// Whether the address has sent within ``days``.
    public func contains(_ address: RecipientAddress) -> Bool {
        let (set, mark) = address.withKey(Self.home)
        let first = firstDay.load(ordering: .relaxed)
        for way in 0..<Self.wayCount {
            let found = places[set + way].load(ordering: .relaxed)
            if found &>> 16 == mark { return Int64(found & 0xffff) >= first }
        }
        return false
    }

    /// How many addresses have sent within ``days``.
    public var count: Int {
        let first = firstDay.load(ordering: .relaxed)
        var count = 0
        for place in 0..<Self.setCount * Self.wayCount {
            let found = places[place].load(ordering: .relaxed)
            if found != 0, Int64(found & 0xffff) >= first { count += 1 }
        }
        return count
    }

    /// The first place of an address's set, and the bits of the hash that mark the address there.
    private static func home(_ key: UnsafeBufferPointer<UInt8>) -> (set: Int, mark: UInt64) {
        var hasher = Hasher()
        hasher.combine(bytes: UnsafeRawBufferPointer(key))
        let hash = UInt64(truncatingIfNeeded: hasher.finalize())
        let mark = hash &>> 16
        return (Int(truncatingIfNeeded: hash & UInt64(setCount - 1)) * wayCount, mark == 0 ? 1 : mark)
    }
}

// All that changes is atomic.
extension UnlistedSenders: @unchecked Sendable {}
