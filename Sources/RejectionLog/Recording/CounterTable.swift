/// Counts by ``CounterKey`` in open addressing over memory of its own: adding takes no allocation until three quarters of
/// the places are taken, then the table doubles. A handle: whoever holds the last one calls ``deallocate()``.
struct CounterTable {
    private var keys: UnsafeMutablePointer<UInt64>
    private var counts: UnsafeMutablePointer<Int64>
    private var mask: Int
    private(set) var used = 0

    /// - Parameter places: a power of two.
    init(places: Int) {
        keys = .allocate(capacity: places)
        keys.initialize(repeating: 0, count: places)
        counts = .allocate(capacity: places)
        counts.initialize(repeating: 0, count: places)
        mask = places - 1
    }

    func deallocate() {
        keys.deallocate()
        counts.deallocate()
    }

    mutating func add(_ key: CounterKey, _ count: Int64 = 1) {
        var place = home(key.bits)
        while true {
            let found = keys[place]
            if found == key.bits {
                counts[place] &+= count
                return
            }
            if found == 0 { break }
            place = (place &+ 1) & mask
        }
        if (used &+ 1) &* 4 > (mask &+ 1) &* 3 {
            grow()
            add(key, count)
            return
        }
        keys[place] = key.bits
        counts[place] = count
        used &+= 1
    }

    func forEach(_ body: (CounterKey, Int64) -> Void) {
        guard used > 0 else { return }
        for place in 0...mask where keys[place] != 0 {
            body(CounterKey(bits: keys[place]), counts[place])
        }
    }

    mutating func removeAll() {
        guard used > 0 else { return }
        keys.update(repeating: 0, count: mask &+ 1)
        used = 0
    }

    private func home(_ bits: UInt64) -> Int {
        Int(truncatingIfNeeded: (bits &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
    }

    private mutating func grow() {
        var larger = CounterTable(places: (mask &+ 1) &* 2)
        forEach { larger.add($0, $1) }
        deallocate()
        self = larger
    }
}

// The memory has one user at a time: a stripe under its lock, or the writer thread after the two have changed tables.
extension CounterTable: @unchecked Sendable {}
