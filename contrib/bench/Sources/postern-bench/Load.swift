import Foundation
import Glibc
import Synchronization

/// Asks questions on several connections at once, for some time, and counts the answers.
struct Load {
    /// The result.
    struct Outcome {
        /// Answers a second, on all connections together.
        let rate: Double
        /// The number of answers.
        let count: Int
        /// The 99th percentile of the time for an answer, in seconds.
        let percentile99: Double
        /// Seconds for which all processors of the machine together were busy for each answer: the load generator is
        /// included, work that is done later is not.
        let busy: Double
        /// Context switches for each answer.
        let switches: Double
    }

    /// State that the threads share.
    private final class Shared: Sendable {
        struct Sum {
            var times: [UInt32] = []
            var failure: Failure?
        }

        let sum = Mutex(Sum())
        /// Signalled by each connection when it is open or has failed, and to each connection to begin.
        let ready = DispatchSemaphore(value: 0)
        let go = DispatchSemaphore(value: 0)
        /// The end, in nanoseconds of the monotonic clock.
        let end = Atomic(0)
    }

    let connections: Int
    let seconds: Double

    /// Runs `body` on several threads at once.
    static func each(_ threads: Int, _ body: @escaping @Sendable (_ number: Int) throws -> Void) throws {
        let failure = Mutex<Failure?>(nil)
        DispatchQueue.concurrentPerform(iterations: threads) { number in
            do { try body(number) } catch { failure.withLock { $0 = Failure("\(error)") } }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    /// - Parameter connect: opens a connection, on its thread, and returns a function that asks the next question there
    ///   and waits for the answer. All connections are open before the first question, and all end at the same moment.
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
            guard !sorted.isEmpty else { throw Failure("there was no answer") }
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

    /// The time for each answer, in nanoseconds.
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

/// Counters of the machine's processors since its start (proc_stat(5)).
private struct Processors {
    /// Busy seconds, without those that the host of a virtual machine took away.
    let busy: Double
    /// Context switches.
    let switches: Double

    init() throws {
        var figures: [Substring: [Double]] = [:]
        for line in try String(contentsOfFile: "/proc/stat", encoding: .utf8).split(separator: "\n") {
            let words = line.split(separator: " ")
            if let name = words.first { figures[name] = words.dropFirst().map { Double($0) ?? 0 } }
        }
        guard let ticks = figures["cpu"], ticks.count >= 7, let switches = figures["ctxt"]?.first else {
            throw Failure("/proc/stat lacks the counters of the processors")
        }
        // The fields are: user, nice, system, idle, iowait, irq, softirq.
        busy = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / Double(sysconf(Int32(_SC_CLK_TCK)))
        self.switches = switches
    }
}
