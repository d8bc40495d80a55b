import Logging
import RecipientSources
import RecipientSync
import Synchronization

/// Writes each faulty entry of the sources to the log once, not at every sync.
final class FaultLog: Sendable {
    /// How many lines are remembered. Then all are forgotten, and entries that are still faulty are written again.
    private static let mostRemembered = 10_000

    private let logger: Logger
    private let written = Mutex<Set<String>>([])

    init(_ logger: Logger) { self.logger = logger }

    /// Writes the faulty and doubtful entries that a sync has found and that aren't in the log yet.
    func write(_ run: SyncRun) {
        for source in run.sources where source.failure == nil {
            write(source.report.faults, of: source, "lists nobody")
            write(source.report.domainFaults, of: source, "relay domain")
            write(source.report.doubts, of: source, "listed")
        }
    }

    private func write(_ faults: EntryFaults, of source: SourceState, _ meaning: String) {
        let subject = "sync: source \(source.name): \(meaning):"
        for fault in faults.first { writeOnce("\(subject) \(fault)") }
        let more = faults.count - faults.first.count
        if more > 0 { writeOnce("\(subject) \(more) more entries") }
    }

    private func writeOnce(_ line: String) {
        let isNew = written.withLock { written in
            if written.count >= Self.mostRemembered { written.removeAll() }
            return written.insert(line).inserted
        }
        if isNew { logger.warning("\(line)") }
    }
}
