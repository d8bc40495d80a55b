import Foundation
import RecipientFilter
package import RecipientIndex
import RecipientSync
import RejectionLog
import Synchronization

/// What a running filter has counted since its start, for the metrics.
struct FilterCounters: Sendable {
    /// The recipients judged, by domain, reason and outcome.
    var verdicts: [VerdictTotal]
    /// The relay domains that have metrics of their own.
    var domains: [String]
    /// How long judging took.
    var latency: LatencyHistogram.Reading
    /// The syncs.
    var sync: SyncCounters.Reading
    /// The index files taken over.
    var indexLoads: Int
    /// The index files that could not be used.
    var indexFailures: Int
    /// The refusals that got no line in the messages; nil if none gets any.
    var omittedLines: Int?
    /// The bytes of the rejection log.
    var logSize: Int
    /// What the process uses.
    var process = ProcessUsage()
}

/// What the kernel says this process uses; nil where it doesn't say.
struct ProcessUsage: Sendable {
    /// In bytes.
    let residentMemory: Int?
    /// File descriptors.
    let openDescriptors: Int?
    /// User and system time in seconds.
    let processorSeconds: Double?

    /// The usage of now.
    init() {
        let words = FileManager.default.contents(atPath: "/proc/self/statm")
            .map { String(decoding: $0, as: UTF8.self).split(separator: " ") }
        residentMemory = words.flatMap { $0.count > 1 ? Int($0[1]) : nil }.map {
            $0 * Int(sysconf(Int32(_SC_PAGESIZE)))
        }
        openDescriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count
        var usage = rusage()
        processorSeconds =
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0
            ? [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 } : nil
    }
}

/// How often a new index file was taken over, or could not be.
package final class IndexCounters: Sendable {
    private let loaded = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)

    /// No index file yet.
    package init() {}

    /// The index files taken over.
    var loads: Int { loaded.load(ordering: .relaxed) }
    /// The index files that could not be used.
    var failures: Int { failed.load(ordering: .relaxed) }

    /// Counts what became of an index file.
    package func count(_ event: IndexWatcher.Event) {
        switch event {
        case .loaded: loaded.add(1, ordering: .relaxed)
        case .failed: failed.add(1, ordering: .relaxed)
        }
    }
}
