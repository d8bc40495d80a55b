import Logging
import RecipientSources
import RecipientSync
import Synchronization

/// Writes each faulty entry of the sources to the log once, rather than at every sync.
final class FaultLog: Sendable {
    /// How many are remembered; beyond, they are forgotten, and those that are still there are written again.
    private static let mostRemembered = 10_000

    private let logger: Logger
    private let written = Mutex<Set<String>>([])

    init(_ logger: Logger) { self.logger = logger }

    /// Takes the faults of a sync.
    func take(_ run: SyncRun) {
        let sources: [SourceState]
        switch run.result {
        case .success(let report): sources = report.sources
        case .failure(let error): sources = error.sources
        }
        for source in sources where source.failure == nil {
            write(source.report.faults, of: source, "lists nobody")
            write(source.report.domainFaults, of: source, "relay domain")
            write(source.report.doubts, of: source, "listed")
        }
    }

    private func write(_ faults: EntryFaults, of source: SourceState, _ what: String) {
        for fault in faults.first {
            let line = "sync: source \(source.name): \(what): \(fault)"
            let isNew = written.withLock { written in
                if written.count >= Self.mostRemembered { written.removeAll() }
                return written.insert(line).inserted
            }
            if isNew { logger.warning("\(line)") }
        }
        let more = faults.count - faults.first.count
        guard more > 0 else { return }
        let line = "sync: source \(source.name): \(what): \(more) more such entries"
        if written.withLock({ $0.insert(line).inserted }) { logger.warning("\(line)") }
    }
}
