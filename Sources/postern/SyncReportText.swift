import Logging
import RecipientSources
import RecipientSync
import System

/// A sync's report as text: in full for `postern sync`, as lines of the log for a sync thread.
struct SyncReportText {
    private let report: SyncReport

    init(_ report: SyncReport) { self.report = report }

    /// The sources, the changes, and what became of the index; lines of at most 80 columns if the values allow.
    var text: String {
        var lines = report.sources.flatMap(source)
        lines += change("added", report.added, sign: "+")
        lines += change("removed", report.removed, sign: "-")
        lines += change("changed", report.changed, sign: "~")
        lines += change("returned", report.returned, sign: "+")
        if report.leaving > 0 {
            lines.append("\(report.leaving) leaving: deferred until sync.grace has passed, then rejected")
        }
        lines += report.notes.map { note in
            // A dry run has accepted nothing.
            let isTried = report.outcome == .dryRun && note.hasPrefix("accepted: ")
            return "note: \((isTried ? "would be " : "") + note.onOneLine)"
        }
        lines.append(outcome)
        if report.outcome == .dryRun, let refusal = report.refusal {
            lines += refusal.reasons.map { "  \($0.onOneLine)" }
            lines.append(
                refusal.acceptable
                    ? "  if this is intended: postern sync --accept-shrink"
                    : "  --accept-shrink doesn't overrule minimum and canaries: correct the source or the configuration"
            )
        }
        return lines.joined(separator: "\n")
    }

    /// Writes an event of a sync thread to the log.
    static func log(_ event: SyncEvent, _ logger: Logger) {
        switch event {
        case .synced(let report):
            logger.notice("sync: \(SyncReportText(report).summary)")
            for note in report.notes { logger.notice("sync: \(note)") }
            for source in report.sources where source.reading == .full {
                for warning in warnings(source) { logger.warning("sync: source \(source.name): \(warning)") }
            }
        case .recovered(let report): logger.notice("sync: recovered; \(SyncReportText(report).summary)")
        case .failed(let error):
            for line in error.description.split(separator: "\n") { logger.error("sync: \(line)") }
        }
    }

    /// Writes to the log that the files that a sync writes can't be used, or can be used again.
    static func log(_ failure: PartFailure?, _ logger: Logger) {
        if let failure {
            logger.error("sync: \(failure.reason); \(failure.advice)")
        } else {
            logger.notice("sync: the state and the index can be written again")
        }
    }

    /// The entries that seem meant as recipients, and aren't; a clause for each kind.
    private static func warnings(_ source: SourceState) -> [String] {
        var warnings: [String] = []
        if source.report.foreign.count > 0 {
            warnings.append(
                "\(Words.count(source.report.foreign.count, "recipient")) left out: the source may not list recipients of "
                    + "their domains (domains key or relay domains); the first: "
                    + source.report.foreign.first.prefix(3).joined(separator: ", "))
        }
        if let unlisted = source.report.unlistedTargets {
            warnings.append(
                "\(Words.count(unlisted.count, "alias", plural: "aliases")) with a target that no source lists; the first: "
                    + unlisted.first.prefix(3).joined(separator: ", "))
        }
        if source.report.skipped.withoutDomain > 0, source.type == "file" || source.type == "command" {
            warnings.append("\(Words.count(source.report.skipped.withoutDomain, "user")) without a domain, left out")
        }
        return warnings
    }

    private var summary: String {
        var changes = [
            "\(report.added.count) added", "\(report.removed.count) removed", "\(report.changed.count) changed",
        ]
        if report.returned.count > 0 { changes.append("\(report.returned.count) returned") }
        if report.left > 0 { changes.append("\(report.left) now rejected") }
        if report.leaving > 0 { changes.append("\(report.leaving) leaving") }
        return "\(outcome) (\(changes.joined(separator: ", ")))"
    }

    private var outcome: String {
        switch report.outcome {
        case .published: "published \(holdings) as generation \(report.generation)"
        case .refreshed: "no change; the index was written again with a new date: \(holdings)"
        case .unchanged: "nothing changed: \(holdings)"
        case .dryRun:
            report.refusal == nil
                ? "dry run, nothing written: the index would hold \(holdings)"
                : "dry run, nothing written: Postern would reject this list"
        case .refused: "Postern rejects the list: the index in use stays"
        }
    }

    private var holdings: String {
        var parts = [Words.count(report.recipients, "recipient")]
        if report.catchAllDomains > 0 { parts.append(Words.count(report.catchAllDomains, "catch-all domain")) }
        if report.aliasDomains > 0 { parts.append(Words.count(report.aliasDomains, "alias domain")) }
        guard parts.count > 1 else { return parts[0] }
        return parts.dropLast().joined(separator: ", ") + " and " + parts[parts.count - 1]
    }

    private func source(_ source: SourceState) -> [String] {
        let name = "source \(source.name.escapedForMessage) (\(source.type))"
        let listed = "\(source.recipients) listed"
        switch source.reading {
        case .failed: return ["\(name): not read; its last list stays in use"]
        case .unchanged:
            let state =
                source.progress.map {
                    "still being read since \(Words.time($0.since)); its last list stays in use"
                } ?? "unchanged"
            return ["\(name): \(state), \(listed)"] + faults(source.report)
        case .full:
            return ["\(name): \(Words.count(source.report.read, "entry", plural: "entries")), \(listed)"]
                + findings(source.report, isTable: source.type == "file" || source.type == "command")
        case .changes:
            let entries = Words.count(source.report.read, "changed entry", plural: "changed entries")
            return ["\(name): \(entries), \(listed)"] + findings(source.report, isTable: false)
        }
    }

    /// - Parameter isTable: whether users without a domain are counted here; in a directory, such an entry is faulty.
    private func findings(_ report: SourceReport, isTable: Bool) -> [String] {
        var lines: [String] = []
        if let server = report.server { lines.append("  from \(server)\(report.method.map { " by \($0)" } ?? "")") }
        if report.duplicates > 0 { lines.append("  \(report.duplicates) repeated") }
        if report.foreign.count > 0 {
            let first = report.foreign.count > report.foreign.first.count ? "; the first" : ""
            lines.append(
                "  \(Words.count(report.foreign.count, "recipient")) left out: the source may not list recipients of their "
                    + "domains (domains key or relay domains)\(first):")
            lines += report.foreign.first.map { "    \($0.escapedForMessage)" }
        }
        let skipped = [
            (report.skipped.domains, "domain without a local part", "domains without a local part"),
            (isTable ? report.skipped.withoutDomain : 0, "user without a domain", "users without a domain"),
            (
                report.skipped.otherTags, "entry with another tag (From:, Connect:)",
                "entries with other tags (From:, Connect:)"
            ),
            (report.skipped.wildcards, "wildcard", "wildcards"),
            (report.skipped.otherProtocols, "address of another kind than SMTP", "addresses of other kinds than SMTP"),
            (report.skipped.disabled, "disabled entry", "disabled entries"),
            (report.skipped.excluded, "entry below exclude_bases", "entries below exclude_bases"),
        ]
        for (count, one, many) in skipped where count > 0 {
            lines.append("  \(Words.count(count, one, plural: many)), left out")
        }
        if report.skipped.refusing > 0 {
            lines.append("  \(Words.count(report.skipped.refusing, "recipient")) that the table rejects")
        }
        if let unlisted = report.unlistedTargets {
            let aliases = Words.count(unlisted.count, "alias", plural: "aliases")
            lines.append("  \(aliases) with a target that no source lists:")
            lines += shown(unlisted.first, of: unlisted.count)
        }
        return lines + faults(report)
    }

    /// The faulty and doubtful entries, with what is wrong with each.
    private func faults(_ report: SourceReport) -> [String] {
        let kinds = [
            (report.faults, "faulty entry, which lists nobody", "faulty entries, which list nobody"),
            (report.domainFaults, "faulty entry of relay domains", "faulty entries of relay domains"),
            (report.doubts, "doubtful entry, which is listed", "doubtful entries, which are listed"),
        ]
        return kinds.flatMap { faults, one, many -> [String] in
            guard faults.count > 0 else { return [] }
            return ["  \(Words.count(faults.count, one, plural: many)):"]
                + shown(faults.first.map(\.description), of: faults.count)
        }
    }

    /// A line for each of the first values, and one that counts the others.
    private func shown(_ first: [String], of count: Int) -> [String] {
        first.map { "    \($0.escapedForMessage)" }
            + (count > first.count ? ["    … and \(count - first.count) more"] : [])
    }

    /// The first ten addresses, and how many more.
    private func change(_ title: String, _ list: ChangeList, sign: String) -> [String] {
        guard list.count > 0 else { return [] }
        let shown = list.addresses.prefix(10)
        var lines = ["\(list.count) \(title):"] + shown.map { "  \(sign) \($0.escapedForMessage)" }
        if list.count > shown.count { lines.append("  \(sign) … and \(list.count - shown.count) more") }
        return lines
    }
}
