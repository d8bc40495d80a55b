import System

/// The time by which a sync measures how long ago a recipient has gone: clocks that leap neither end the time of grace nor the guard's
/// memory.
///
/// It goes on with the machine's steady clock, which counts suspended time too. Over a restart of the machine, only the clock on the wall
/// tells how much time has passed: it is believed for an hour at most.
struct SyncClock: Sendable {
    /// What the clocks of the machine show, in milliseconds.
    struct Reading: Equatable {
        /// Since 1970.
        var wall: Int64
        /// Since the machine was started: CLOCK_BOOTTIME.
        var steady: Int64
        /// Tells one start of the machine from others; empty where the system doesn't say.
        var boot: String
    }

    /// How much of the time between two starts of the machine is believed.
    static let mostBetweenBoots: Int64 = 3_600_000

    /// What the clocks show now.
    var read: @Sendable () -> Reading

    static let machine = SyncClock {
        Reading(wall: Clocks.wall, steady: Clocks.sinceBoot, boot: Clocks.bootID)
    }

    /// The sync's time now, from what it was when the clocks were last read. It never goes back.
    static func time(_ reading: Reading, after last: (time: Int64, reading: Reading)) -> Int64 {
        let passed: Int64
        if reading.boot == last.reading.boot, !reading.boot.isEmpty, reading.steady >= last.reading.steady {
            let (difference, overflow) = reading.steady.subtractingReportingOverflow(last.reading.steady)
            passed = overflow ? 0 : difference
        } else {
            let (difference, overflow) = reading.wall.subtractingReportingOverflow(last.reading.wall)
            passed = overflow ? 0 : min(max(0, difference), mostBetweenBoots)
        }
        let (time, overflow) = last.time.addingReportingOverflow(passed)
        return overflow ? last.time : time
    }
}
