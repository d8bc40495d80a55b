import Foundation
import RecipientSources
import RecipientSync
import System

/// A problem that needs an administrator, and its remedy.
package struct Trouble: Encodable {
    /// The problem, with the values.
    var text: String
    /// The remedy.
    var advice: String

    /// The trouble of a part that doesn't work; nil for a part that works.
    static func ofPart(_ report: ServiceHealth.Report, now: Date) -> Trouble? {
        guard !report.works, let reason = report.reason else { return nil }
        func duration(_ seconds: TimeInterval) -> String {
            Words.duration(seconds: Int(exactly: max(0, seconds).rounded()) ?? 0)
        }
        let next = report.nextTry.map { "; next try in \(duration($0.timeIntervalSince(now)))" } ?? ""
        let time = "for \(duration(now.timeIntervalSince(report.since)))\(next)"
        return Trouble(
            text: reason.hasPrefix(report.part.rawValue) ? reason : "\(report.part.rawValue): \(reason)",
            advice: "\(report.advice ?? "see the filter's messages") (\(time))")
    }

    /// The troubles of the filter's parts, the index and the sync, gravest first.
    ///
    /// - Parameters:
    ///   - parts: the parts of the running filter; empty if no filter runs.
    ///   - isIndexExpected: whether a missing index is a trouble.
    ///   - sync: the content of the sync state; nil if it can't be read.
    static func all(
        _ settings: MonitoringSettings, parts: [ServiceHealth.Report], index: FilterStatus.Index?,
        isIndexExpected: Bool, sync: SyncStatus?, now: Date = Date()
    ) -> [Trouble] {
        let failing = Set(parts.filter { !$0.works }.map(\.part))
        // The sync state has more about the sources. If the log fails, the reason is that of the control socket beside it.
        let shown = parts.filter { $0.part != .sync && !($0.part == .control && failing.contains(.log)) }
        var troubles = shown.compactMap { ofPart($0, now: now) }
        troubles += ofIndex(settings, index, isExpected: isIndexExpected, now: now)
        if let sync {
            troubles += ofSync(sync)
        } else if !settings.sources.isEmpty, !failing.contains(.state) {
            troubles.append(
                Trouble(
                    text: "the sync state \(settings.syncState) is missing or can't be read",
                    advice: "to make it, run postern sync --once as the filter's user"))
        }
        return troubles
    }

    private static func ofIndex(
        _ settings: MonitoringSettings, _ index: FilterStatus.Index?, isExpected: Bool, now: Date
    ) -> [Trouble] {
        guard let index else {
            guard isExpected else { return [] }
            return [
                Trouble(
                    text: "there is no index at \(settings.indexPath): recipients can't be verified",
                    advice: settings.sources.isEmpty
                        ? "copy the index here from the machine where postern sync makes it"
                        : "see why the sync publishes no index: postern sync --dry-run")
            ]
        }
        let age = now.timeIntervalSince(index.created)
        if age < -Words.clockTolerance {
            return [
                Trouble(
                    text: "the index is \(Words.age(of: index.created, now: now)): its age isn't known",
                    advice:
                        "set the clock of this machine or of the machine that makes the index, then make a new index; an index "
                        + "dated more than an hour ahead counts as older than index.max_age")
            ]
        }
        guard settings.maximumIndexAge > 0, age > Double(settings.maximumIndexAge) else { return [] }
        let duration = Words.duration(seconds: Int(exactly: age.rounded(.down)) ?? .max)
        return [
            Trouble(
                text: "the index is \(duration) old, more than index.max_age",
                advice:
                    "repair the sync, or the transfer of the index to this machine; until then policy.index_stale decides"
            )
        ]
    }

    private static func ofSync(_ sync: SyncStatus) -> [Trouble] {
        var troubles: [Trouble] = []
        if let refusal = sync.refusal {
            // First the violations that --accept-shrink doesn't overrule.
            let violations =
                refusal.violations.filter { $0.rule != .maxShrink }
                + refusal.violations.filter { $0.rule == .maxShrink }
            troubles.append(
                Trouble(
                    text: "Postern rejected the list of \(Words.time(refusal.time)): "
                        + violations.prefix(3).map(\.text).joined(separator: "; "),
                    advice: refusal.acceptable
                        ? "if the change is intended: postern sync --accept-shrink"
                        : "repair the source; --accept-shrink doesn't overrule sync.minimum and sync.canaries"))
        }
        for (name, failure) in sync.failures.sorted(by: { $0.key < $1.key }) {
            troubles.append(
                Trouble(
                    text: failure.text.hasPrefix("source \"") ? failure.text : "source \"\(name)\": \(failure.text)",
                    advice: "last tried at \(Words.time(failure.at)); the source's last list stays in use; "
                        + "to read the source now: postern sync --dry-run"))
        }
        for source in sync.sources {
            let (faults, domainFaults) = (source.report.faults, source.report.domainFaults)
            guard let worst = faults.first.first ?? domainFaults.first.first else { continue }
            let count = faults.count + domainFaults.count
            let entries = Words.count(count, "faulty entry", plural: "faulty entries")
            troubles.append(
                Trouble(
                    text: "source \(source.name) has \(entries): \(worst)",
                    advice: "correct the entry in the source; to see all: postern sync --dry-run"))
        }
        return troubles
    }
}
