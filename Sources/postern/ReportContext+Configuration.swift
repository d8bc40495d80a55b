import DirectorySync
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RejectionLog
import System

extension ReportContext {
    /// What a report needs beside the log, as the files of the configuration have it now.
    init(_ read: Configuration, now: Date = Date()) {
        self.init()
        self.now = now
        let index = try? IndexSnapshot(path: read.index.path)
        let configuration = read.naming(index?.info.sources ?? [])
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
        let status = read.sync.sources.isEmpty ? nil : syncStatus(state: read.sync.state)
        if index != nil || status != nil {
            sync = .init(index?.info, status, maximumAge: read.index.maximumAge, now: now)
        }
    }
}

extension RejectionReport.SyncHealth {
    fileprivate init(_ index: IndexInfo?, _ status: SyncStatus?, maximumAge: Int, now: Date) {
        self.init()
        if let index {
            created = index.created
            recipients = index.recipients
            age = Int(exactly: max(0, now.timeIntervalSince(index.created)).rounded()) ?? 0
            let lead = index.created.timeIntervalSince(now)
            ahead = lead > Words.clockTolerance ? Int(exactly: lead.rounded(.down)) ?? .max : 0
            isStale = maximumAge > 0 && (age > maximumAge || ahead > 3600)
        }
        guard let status else { return }
        sources = status.sources.map {
            .init(name: $0.name, recipients: $0.recipients, asOf: $0.asOf, failure: status.failures[$0.name]?.text)
        }
        // One that was never read is in no list.
        for (name, failure) in status.failures.sorted(by: { $0.key < $1.key })
        where !sources.contains(where: { $0.name == name }) {
            sources.append(.init(name: name, recipients: 0, asOf: nil, failure: failure.text))
        }
        refused = status.refusal.map { refusal in
            .init(
                time: refusal.time, text: refusal.violations.map(\.text).joined(separator: "; "),
                removed: refusal.removed,
                acceptable: refusal.acceptable)
        }
    }
}
