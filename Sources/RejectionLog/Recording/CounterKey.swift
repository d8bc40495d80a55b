/// What is counted apart, packed into one word: minute, domain slot, reason, outcome, observed.
///
/// Layout from the top: 1 bit always set (so that zero means "free" in a table), 28 bits minute since 1970, 24 bits
/// domain slot, 8 bits reason, 2 bits outcome, 1 bit observed.
struct CounterKey: Hashable, Sendable {
    let bits: UInt64

    static let maximumMinute: Int64 = (1 << 28) - 1
    static let maximumSlot: UInt32 = (1 << 24) - 1

    init(bits: UInt64) {
        self.bits = bits
    }

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
    var outcome: UInt8 { UInt8(truncatingIfNeeded: bits >> 1) & 3 }
    var observed: Bool { bits & 1 == 1 }

    /// The same without the domain.
    var ofNoDomain: CounterKey {
        CounterKey(
            minute: minute, slot: 0, reason: reason, outcome: Outcome(rawValue: outcome) ?? .refused, observed: observed
        )
    }

    /// The same without the domain, in the first minute of its hour.
    var ofItsHour: CounterKey {
        CounterKey(
            minute: minute - minute % 60, slot: 0, reason: reason, outcome: Outcome(rawValue: outcome) ?? .refused,
            observed: observed)
    }

    /// A record of one detail row that found no room in the minute.
    static func thinned(minute: Int64) -> CounterKey {
        CounterKey(minute: minute, slot: 0, reason: ReasonSlot.thinned.index, outcome: .accepted, observed: false)
    }

    /// The minute of a time in milliseconds since 1970; times before 1970 and after 2480 are clamped.
    static func minute(ofMilliseconds time: Int64) -> Int64 {
        min(max(time / 60_000, 0), maximumMinute)
    }
}
