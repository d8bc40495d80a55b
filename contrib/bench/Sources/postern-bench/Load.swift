import Foundation
import Glibc
import Synchronization

/// Asks one thing after the other on several connections at once, for a while, and counts.
struct Load {
    /// What came of it.
    struct Outcome {
        /// Answers in a second, on all connections together.
        let rate: Double
        /// How many there were.
        let count: Int
        /// Of a hundred answers, 99 came within this, in seconds.
        let percentile99: Double
        /// Seconds that the machine's processors, all together and whatever they did, were busy for each answer: the driver's
        /// part is in it, and what is put off until later is not.
        let busy: Double
        /// How often they went from one thread to another for each answer.
        let switches: Double
    }

    /// What the threads have in common.
    private final class Shared: Sendable {
        struct Sum {
            var times: [UInt32] = []
            var failure: Failure?
        }

        let sum = Mutex(Sum())
        /// Signalled by each connection that is there, or has failed; and to each to begin.
        let ready = DispatchSemaphore(value: 0)
        let go = DispatchSemaphore(value: 0)
        /// When to end, in nanoseconds of the monotonic clock.
        let end = Atomic(0)
    }

    let connections: Int
    let seconds: Double

    /// Does the same on several threads at once.
    static func each(_ threads: Int, _ body: @escaping @Sendable (_ number: Int) throws -> Void) throws {
        let failure = Mutex<Failure?>(nil)
        DispatchQueue.concurrentPerform(iterations: threads) { number in
            do { try body(number) } catch { failure.withLock { $0 = Failure("\(error)") } }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    /// - Parameter connect: makes a connection, on its thread; what it returns asks the next question there and waits for
    ///   the answer. All connections are there before the first question, and all end at the same moment.
    func run(_ connect: @escaping @Sendable (_ number: Int) throws -> (() throws -> Void)) throws -> Outcome {
        let shared = Shared()
        let group = DispatchGroup()
        for number in 0..<connections {
            group.enter()
            Thread.detachNewThread {
                defer { group.leave() }
                do {
                    let ask: () throws -> Void
                    do {
                        defer { shared.ready.signal() }
                        ask = try connect(number)
                    }
                    shared.go.wait()
                    let times = try Self.ask(ask, until: shared.end.load(ordering: .sequentiallyConsistent))
                    shared.sum.withLock { $0.times += times }
                } catch {
                    shared.sum.withLock { $0.failure = Failure("\(error)") }
                }
            }
        }
        for _ in 0..<connections { shared.ready.wait() }
        let before = try Processors()
        shared.end.store(Self.now() + Int(seconds * 1e9), ordering: .sequentiallyConsistent)
        for _ in 0..<connections { shared.go.signal() }
        group.wait()
        let after = try Processors()
        return try shared.sum.withLock { sum in
            if let failure = sum.failure { throw failure }
            let sorted = sum.times.sorted()
            guard !sorted.isEmpty else { throw Failure("nothing was answered") }
            return Outcome(
                rate: Double(sorted.count) / seconds, count: sorted.count,
                percentile99: Double(sorted[sorted.count * 99 / 100]) / 1e9,
                busy: (after.busy - before.busy) / Double(sorted.count),
                switches: (after.switches - before.switches) / Double(sorted.count))
        }
    }

    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// The nanoseconds that each answer took.
    private static func ask(_ ask: () throws -> Void, until end: Int) throws -> [UInt32] {
        var times: [UInt32] = []
        times.reserveCapacity(1 << 16)
        var last = now()
        while last < end {
            try ask()
            let time = now()
            times.append(UInt32(clamping: time - last))
            last = time
        }
        return times
    }
}

/// What the machine's processors have done since its start (proc_stat(5)).
private struct Processors {
    /// Seconds, without being idle or taken away by the host of a virtual machine.
    let busy: Double
    /// Changes from one thread to another.
    let switches: Double

    init() throws {
        var figures: [Substring: [Double]] = [:]
        for line in try String(contentsOfFile: "/proc/stat", encoding: .utf8).split(separator: "\n") {
            let words = line.split(separator: " ")
            if let name = words.first { figures[name] = words.dropFirst().map { Double($0) ?? 0 } }
        }
        guard let ticks = figures["cpu"], ticks.count >= 7, let switches = figures["ctxt"]?.first else {
            throw Failure("/proc/stat doesn't tell what the processors do")
        }
        // User, nice, system; idle and waiting; interrupts of both kinds.
        busy = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / Double(sysconf(Int32(_SC_CLK_TCK)))
        self.switches = switches
    }
}
