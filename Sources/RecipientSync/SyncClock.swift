import System

/// The sync's own time, by which it measures how long ago a recipient left the list: a clock that leaps ends neither a
/// grace nor the window of the guard.
///
/// It advances with the machine's steady clock, which counts suspended time too. Over a restart of the machine, only the wall clock tells
/// how much time has passed; the sync's time advances by an hour at most then.
struct SyncClock: Sendable {
    /// What the clocks of the machine show, in milliseconds.
    struct Reading: Equatable {
        /// Since 1970.
        var wall: Int64
        /// Since the machine was started (CLOCK_BOOTTIME).
        var steady: Int64
        /// The id of this start of the machine; empty if the system has none.
        var boot: String
    }

    /// The most that the sync's time advances over a restart of the machine.
    static let mostBetweenBoots: Int64 = 3_600_000

    /// What the clocks show now.
    var read: @Sendable () -> Reading

    static let machine = SyncClock {
        Reading(wall: Clocks.wall, steady: Clocks.sinceBoot, boot: Clocks.bootID)
    }

    /// The sync's time now, from the time when the clocks were last read. It never goes back.
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
