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
        /// Seconds that the machine's processors, all together, were busy for each answer: what an answer costs, whatever the
        /// host of a virtual machine leaves of them.
        let busy: Double
        /// How often they went from one thread to another for each answer.
        let switches: Double
    }

    /// What the threads have in common.
    private final class Shared: Sendable {
        struct Sum {
            var times: [UInt32] = []
            var rate = 0.0
            var failure: Failure?
        }

        let sum = Mutex(Sum())
        /// The connections that are there, or have failed.
        let ready = Atomic(0)
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
    ///   the answer. All connections are there before the first question.
    func run(_ connect: @escaping @Sendable (_ number: Int) throws -> (() throws -> Void)) throws -> Outcome {
        let shared = Shared()
        let group = DispatchGroup()
        let (connections, seconds) = (connections, seconds)
        let before = try Processors()
        for number in 0..<connections {
            group.enter()
            Thread.detachNewThread {
                defer { group.leave() }
                do {
                    let ask: () throws -> Void
                    do {
                        defer { shared.ready.add(1, ordering: .sequentiallyConsistent) }
                        ask = try connect(number)
                    }
                    while shared.ready.load(ordering: .sequentiallyConsistent) < connections { usleep(1_000) }
                    let (times, spent) = try Self.ask(ask, for: seconds)
                    shared.sum.withLock { sum in
                        sum.times += times
                        sum.rate += Double(times.count) / spent
                    }
                } catch {
                    shared.sum.withLock { $0.failure = Failure("\(error)") }
                }
            }
        }
        group.wait()
        let after = try Processors()
        return try shared.sum.withLock { sum in
            if let failure = sum.failure { throw failure }
            let sorted = sum.times.sorted()
            guard !sorted.isEmpty else { throw Failure("nothing was answered") }
            return Outcome(
                rate: sum.rate, count: sorted.count,
                percentile99: Double(sorted[sorted.count * 99 / 100]) / 1e9,
                busy: (after.busy - before.busy) / Double(sorted.count),
                switches: (after.switches - before.switches) / Double(sorted.count))
        }
    }

    /// The nanoseconds that each answer took, and the seconds of all together.
    private static func ask(_ ask: () throws -> Void, for seconds: Double) throws -> ([UInt32], Double) {
        func now() -> Int {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return time.tv_sec * 1_000_000_000 + time.tv_nsec
        }
        var times: [UInt32] = []
        times.reserveCapacity(1 << 18)
        let began = now()
        let end = began + Int(seconds * 1e9)
        var last = began
        while last < end {
            try ask()
            let time = now()
            times.append(UInt32(clamping: time - last))
            last = time
        }
        return (times, Double(last - began) / 1e9)
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
