import Foundation
import GRDB

/// What the state knows when a run begins.
struct Knowledge {
    var decision: Decision
    /// All sources of the state, by name.
    let records: [String: SourceRecord]
    private let fingerprint: (SourceConfiguration) -> String

    init(_ state: SyncState, fingerprint: @escaping (SourceConfiguration) -> String) throws(SyncError) {
        let stored = try state.transaction(.deferred) { database in
            ((try SyncState.decision(database), try SyncState.sources(database)), .commit)
        }
        decision = stored.0
        records = Dictionary(stored.1.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        self.fingerprint = fingerprint
    }

    /// The record of a source, if its entries are right under the present configuration.
    func valid(_ source: SourceConfiguration) -> SourceRecord? {
        guard let record = records[source.name], record.fingerprint == fingerprint(source) else { return nil }
        return record
    }
}

extension Synchronizer {
    /// Reads every source, also after one failed, so that all failures are told at once.
    func pullAll(
        _ known: Knowledge, _ intake: EntryIntake, _ report: inout SyncReport,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> [Pull] {
        var pulls: [Pull] = []
        var errors: [SyncError] = []
        for (place, source) in sources.enumerated() {
            let record = known.valid(source.configuration)
            var result = SourceReport(name: source.configuration.name, type: source.configuration.type)
            let began = ContinuousClock.now
            do throws(SyncError) {
                let pull = try source.pull(since: record, into: intake, report: &result, check: check)
                if pull.reading == .unchanged, let last = record?.report { result = last }
                result.reading = pull.reading
                result.asOf = pull.asOf
                pulls.append(pull)
                if record == nil, known.records[source.configuration.name] != nil {
                    report.notes.append(
                        "the configuration that source \"\(source.configuration.name)\" was last read under has changed: it was read in full"
                    )
                }
            } catch {
                if error.kind == .cancelled { throw error }
                intake.void(source: place)
                if let last = record?.report { result = last }
                result.failure = error.description
                result.reading = .failed
                result.asOf = record?.asOf
                errors.append(error)
                pulls.append(Pull(reading: .failed, asOf: record?.asOf ?? .distantPast, cursor: record?.cursor))
            }
            result.duration = (ContinuousClock.now - began) / .seconds(1)
            report.sources.append(result)
        }
        try judge(errors, known, &report)
        return pulls
    }

    /// Goes on past sources that can't be reached if their last list is at hand.
    private func judge(
        _ errors: [SyncError], _ known: Knowledge, _ report: inout SyncReport
    ) throws(SyncError) {
        guard let first = errors.first else { return }
        let grave = errors.first { $0.kind != .unreachable }
        let missing = report.failures.filter { failed in
            configuration.sources.first { $0.name == failed.name }.flatMap { known.valid($0) } == nil
        }
        guard grave != nil || !missing.isEmpty || errors.count == sources.count else {
            for failed in report.failures {
                report.notes.append("source \"\(failed.name)\" keeps its last list, as it can't be read now")
            }
            return
        }
        throw SyncError(
            (grave ?? first).kind, errors.map(\.description).joined(separator: "\n"), source: (grave ?? first).source)
    }
}
