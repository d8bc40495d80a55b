import Synchronization

/// The key of a counter, packed into one word: minute, domain slot, reason slot, outcome, observe mode.
///
/// From the highest bit down: 1 bit that is always set, so that 0 is a free place in a table; 28 bits, the minute since
/// 1970; 24 bits, the domain slot; 8 bits, the reason slot; 2 bits, the outcome; 1 bit, observe mode.
struct CounterKey: Hashable, Sendable {
    let bits: UInt64

    static let maximumMinute: Int64 = (1 << 28) - 1
    static let maximumSlot: UInt32 = (1 << 24) - 1

    init(bits: UInt64) { self.bits = bits }

    init(minute: Int64, slot: UInt32, reason: UInt8, outcome: Outcome, observed: Bool) {
        let minute = UInt64(bitPattern: min(max(minute, 0), Self.maximumMinute))
        let slot = UInt64(min(slot, Self.maximumSlot))
        var bits: UInt64 = 1 << 63
        bits |= minute << 35
        bits |= slot << 11
        bits |= UInt64(reason) << 3
        bits |= UInt64(outcome.rawValue) << 1
        self.bits = bits | (observed ? 1 : 0)
    }

    var minute: Int64 { Int64((bits >> 35) & 0xFFF_FFFF) }
    var slot: UInt32 { UInt32(truncatingIfNeeded: bits >> 11) & 0xFF_FFFF }
    var reason: UInt8 { UInt8(truncatingIfNeeded: bits >> 3) }
    var outcome: Outcome { Outcome(rawValue: UInt8(truncatingIfNeeded: bits >> 1) & 3) ?? .rejected }
    var observed: Bool { bits & 1 == 1 }

    /// The key without the domain.
    var ofNoDomain: CounterKey { CounterKey(bits: bits & ~(0xFF_FFFF << 11)) }

    /// The key without the minute.
    var ofNoMinute: CounterKey { CounterKey(bits: bits & ~(0xFFF_FFFF << 35)) }

    /// The key without the domain, in the first minute of its hour.
    var ofItsHour: CounterKey {
        CounterKey(minute: minute - minute % 60, slot: 0, reason: reason, outcome: outcome, observed: observed)
    }

    /// The key that counts the detail rows that were thinned out in the minute.
    static func thinned(minute: Int64) -> CounterKey {
        CounterKey(minute: minute, slot: 0, reason: ReasonSlot.thinned.index, outcome: .accepted, observed: false)
    }

    /// The minute of a time in milliseconds since 1970. Times before 1970 and after 2480 give the first and the last
    /// minute.
    static func minute(ofMilliseconds time: Int64) -> Int64 { min(max(time / 60_000, 0), maximumMinute) }
}

/// The units of the counters (UTC); the raw value is that of the database.
enum TimeUnit: Int64, CaseIterable {
    case minute = 0
    case hour = 1
    case day = 2

    var minutes: Int64 {
        switch self {
        case .minute: 1
        case .hour: 60
        case .day: 1440
        }
    }

    /// The first minute (since 1970) of the unit that a minute is in.
    func start(of minute: Int64) -> Int64 { minute - minute % minutes }

    /// The minutes `from ..< to`, in rows of one unit.
    struct Span: Equatable {
        var unit: TimeUnit
        var from: Int64
        var to: Int64
    }

    /// The rows of the minutes `from ..< to`: the largest whole units inside, and smaller units at both ends.
    static func spans(from: Int64, to: Int64, largest unit: TimeUnit = .day) -> [Span] {
        let from = max(from, 0)
        guard from < to else { return [] }
        guard let smaller = TimeUnit(rawValue: unit.rawValue - 1) else { return [Span(unit: unit, from: from, to: to)] }
        let first = unit.start(of: from + unit.minutes - 1)
        let last = unit.start(of: to)
        guard first < last else { return spans(from: from, to: to, largest: smaller) }
        return spans(from: from, to: first, largest: smaller) + [Span(unit: unit, from: first, to: last)]
            + spans(from: last, to: to, largest: smaller)
    }
}

/// Counts by ``CounterKey``, in open addressing over memory of its own. Adding allocates only when the table is three
/// quarters full: then it doubles. A handle: the last owner calls ``deallocate()``.
///
/// System's `ByteTable` is for byte strings and never removes any; here the keys are words, and the counts are cleared
/// four times a second.
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

// One thread at a time uses the memory: a session's under the stripe's lock, or the writer's after it has exchanged
// the tables.
extension CounterTable: @unchecked Sendable {}

/// The numbers that names (of domains, of reasons) have in counters. A number is never used for another name.
final class NameRegistry: Sendable {
    private struct State {
        var names: [String]
        var numbers: [String: Int]
    }

    private let state: Mutex<State>
    private let limit: Int

    /// A registry of at most `limit` names.
    ///
    /// - Parameter first: the name with the number 0; further names than the limit get this number, too.
    init(first: String, limit: Int) {
        state = Mutex(State(names: [first], numbers: [first: 0]))
        self.limit = limit
    }

    /// The name's number; a new name gets the next one.
    func number(of name: String) -> Int {
        state.withLock { state in
            if let number = state.numbers[name] { return number }
            guard state.names.count < limit else { return 0 }
            state.numbers[name] = state.names.count
            state.names.append(name)
            return state.names.count - 1
        }
    }

    /// All names by number. Counters that were taken before have no other numbers.
    var names: [String] { state.withLock { $0.names } }
}

/// How many recipients of one kind were recorded since the log was opened.
public struct VerdictTotal: Sendable, Hashable {
    /// The name given to ``RejectionLog/slot(forDomain:)``; empty for all foreign domains together.
    public var domain: String
    /// The name given to ``RejectionLog/slot(forReason:)``.
    public var reason: String
    /// The verdict.
    public var outcome: Outcome
    /// Whether the verdict was only logged, in observe mode.
    public var observed: Bool
    /// How many recipients.
    public var count: Int
}

/// The sums since the log was opened. The writer adds the counts that it takes from the queue: the sessions' threads
/// have no work with them.
final class VerdictTotals: Sendable {
    /// The sums by the counters' keys without the minute.
    private let sums = Mutex<[CounterKey: Int]>([:])

    func add(_ counts: [(CounterKey, Int64)]) {
        sums.withLock { sums in
            for (key, count) in counts where key.reason != ReasonSlot.thinned.index {
                sums[key.ofNoMinute, default: 0] &+= Int(truncatingIfNeeded: count)
            }
        }
    }

    func list(domains: [String], reasons: [String]) -> [VerdictTotal] {
        sums.withLock { $0 }.map { key, count in
            VerdictTotal(
                domain: Int(key.slot) < domains.count ? domains[Int(key.slot)] : "",
                reason: Int(key.reason) < reasons.count ? reasons[Int(key.reason)] : "other",
                outcome: key.outcome, observed: key.observed, count: count)
        }
    }
}
