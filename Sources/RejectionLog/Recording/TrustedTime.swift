import System

/// Where the log takes the time from, both in milliseconds.
struct LogClocks: Sendable {
    /// Since 1970; may leap.
    var wall: @Sendable () -> Int64
    /// Since any fixed moment; never leaps, and goes on while the machine sleeps.
    var steady: @Sendable () -> Int64

    static let system = LogClocks(wall: { Clocks.wall }, steady: { Clocks.sinceBoot })
}

/// The time of day that something may be deleted by: a wall clock that leaps must not make everything old.
///
/// The wall clock is trusted once it has agreed with the steady clock for an hour. While it hasn't, the time is that of the last
/// moment it was trusted plus what has passed since by the steady clock, if the wall clock isn't behind that; across a restart the
/// last trusted moment comes from the database.
struct TrustedTime {
    /// How long both clocks must agree, and by how many milliseconds they may drift apart meanwhile.
    static let proof: Int64 = 3_600_000
    static let tolerance: Int64 = 300_000

    /// The difference between the clocks, and since when on the steady one it has been that.
    private var agreement: (difference: Int64, since: Int64)?
    /// A moment that was trusted, on both clocks.
    private var anchor: (wall: Int64, steady: Int64)?

    /// Milliseconds since 1970; nil while nothing is known.
    private(set) var now: Int64?

    /// Takes over a moment that an earlier run trusted, unless a later one is known.
    mutating func remember(_ time: Int64, steady: Int64) {
        if anchor == nil { anchor = (time, steady) }
    }

    /// Looks at both clocks.
    mutating func observe(wall: Int64, steady: Int64) {
        let difference = wall &- steady
        if let agreement, (difference &- agreement.difference).magnitude <= UInt64(Self.tolerance),
            steady >= agreement.since
        {
            if steady &- agreement.since >= Self.proof { anchor = (wall, steady) }
        } else {
            agreement = (difference, steady)
        }
        now = anchor.map { min(wall, $0.wall &+ max(0, steady &- $0.steady)) }
    }
}
