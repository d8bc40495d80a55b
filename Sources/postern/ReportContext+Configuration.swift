import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSync
import RejectionLog
import RejectionReport
import System

extension ReportContext {
    /// The present state of the index and the sync, from the files that the configuration names.
    init(_ read: Configuration, now: Date = Date()) {
        self.init()
        self.now = now
        let index = try? IndexSnapshot(path: read.index.path)
        let configuration = read.addingDomains(of: index?.info.sources ?? [])
        relayDomains = configuration.domains.map(\.name).filter { !$0.hasPrefix(".") }
        if let index {
            let policy = configuration.compiledPolicy()
            let seconds = Int64(now.timeIntervalSince1970)
            isUnknown = { path in
                guard let address = try? RecipientAddress(path: path) else { return false }
                return policy.verdict(for: address, client: ClientTrust(), index: index, now: seconds).reason
                    == .unknown
            }
            isListed = { path in
                guard let address = try? RecipientAddress(path: path), address.hasDomain else { return false }
                let flags = address.withKey { $0.first == UInt8(ascii: "@") ? nil : index.lookup($0) }
                return flags?.isDisjoint(with: [.disabled, .internalOnly]) ?? false
            }
        }
        let status = read.sync.sources.isEmpty ? nil : SyncStatus(state: read.sync.state)
        if index != nil || status != nil {
            sync = Sync(index?.info, status, maximumAge: read.index.maximumAge, now: now)
        }
    }
}

extension ReportContext.Sync {
    fileprivate init(_ index: IndexInfo?, _ status: SyncStatus?, maximumAge: Int, now: Date) {
        self.init()
        if let index {
            let age = Int(exactly: max(0, now.timeIntervalSince(index.created)).rounded()) ?? 0
            let lead = index.created.timeIntervalSince(now)
            let ahead = lead > Words.clockTolerance ? Int(exactly: lead.rounded(.down)) ?? .max : 0
            self.index = Index(
                created: index.created, recipients: index.recipients, age: age, ahead: ahead,
                isStale: maximumAge > 0 && (age > maximumAge || ahead > 3600))
        }
        guard let status else { return }
        sources = status.sources.map {
            Source(name: $0.name, recipients: $0.recipients, asOf: $0.lastSynced, failure: $0.failure)
        }
        // The status doesn't list a source that was never read.
        for (name, failure) in status.failures.sorted(by: { $0.key < $1.key })
        where !sources.contains(where: { $0.name == name }) {
            sources.append(Source(name: name, recipients: 0, asOf: nil, failure: failure.text))
        }
        refused = status.refusal.map { refusal in
            RefusedList(
                time: refusal.time, text: refusal.violations.map(\.text).joined(separator: "; "),
                removed: refusal.removed, acceptable: refusal.acceptable)
        }
    }
}
