import Logging
import RecipientSources
import RecipientSync
import System

/// A sync's report for a person.
struct SyncReportText {
    private let report: SyncReport

    init(_ report: SyncReport) { self.report = report }

    /// The sources, the difference, and what became of it; some lines of at most 80 columns where the values allow.
    var text: String {
        var lines = report.sources.flatMap(source)
        lines += change("added", "+", report.added)
        lines += change("removed", "-", report.removed)
        lines += change("changed", "~", report.changed)
        lines += change("returned", "+", report.returned)
        if report.leaving > 0 {
            lines.append("\(report.leaving) leaving: deferred until sync.grace has passed, then rejected")
        }
        lines += report.notes.map { note in
            // Nothing is accepted yet.
            let isTried = report.outcome == .dryRun && note.hasPrefix("accepted: ")
            return "note: \((isTried ? "would be " : "") + note.onOneLine)"
        }
        lines.append(outcome)
        if report.outcome == .dryRun, let refusal = report.refusal {
            lines += refusal.reasons.map { "  \($0.onOneLine)" }
            lines.append(
                refusal.acceptable
                    ? "  if this is meant: postern sync --accept-shrink"
                    : "  --accept-shrink doesn't overrule minimum and canaries: mend the source or the configuration")
        }
        return lines.joined(separator: "\n")
    }

    /// One line for the log.
    static func log(_ event: SyncEvent, _ logger: Logger) {
        switch event {
        case .synced(let report):
            logger.notice("sync: \(SyncReportText(report).summary)")
            for note in report.notes { logger.notice("sync: \(note)") }
            for source in report.sources where source.reading == .full {
                for warning in warnings(source) { logger.warning("sync: source \(source.name): \(warning)") }
            }
        case .recovered(let report): logger.notice("sync: all well again; \(SyncReportText(report).summary)")
        case .failed(let error):
            for line in error.description.split(separator: "\n") { logger.error("sync: \(line)") }
        }
    }

    /// One line for the log on the files that a sync writes.
    static func log(_ failure: PartFailure?, _ logger: Logger) {
        if let failure {
            logger.error("sync: \(failure.reason); \(failure.advice)")
        } else {
            logger.notice("sync: its files can be used again")
        }
    }

    /// Entries that may be meant as recipients and are none.
    private static func warnings(_ source: SourceState) -> [String] {
        var warnings: [String] = []
        if source.report.foreign.count > 0 {
            warnings.append(
                "\(source.report.foreign.count) in domains that it may not feed, left out; the first: "
                    + source.report.foreign.first.prefix(3).joined(separator: ", "))
        }
        if let unlisted = source.report.unlistedTargets {
            warnings.append(
                "\(Words.count(unlisted.count, "alias", plural: "aliases")) with a target that no source lists; the first: "
                    + unlisted.first.prefix(3).joined(separator: ", "))
        }
        if source.report.skipped.withoutDomain > 0, source.type == "file" || source.type == "command" {
            warnings.append("\(Words.count(source.report.skipped.withoutDomain, "user")) without a domain, passed over")
        }
        return warnings
    }

    private var summary: String {
        var changes = [
            "\(report.added.count) added", "\(report.removed.count) removed", "\(report.changed.count) changed",
        ]
        if report.returned.count > 0 { changes.append("\(report.returned.count) returned") }
        if report.left > 0 { changes.append("\(report.left) rejected from now on") }
        if report.leaving > 0 { changes.append("\(report.leaving) leaving") }
        return "\(outcome) (\(changes.joined(separator: ", ")))"
    }

    private var outcome: String {
        switch report.outcome {
        case .published: "published \(holdings) as generation \(report.generation)"
        case .refreshed: "nothing changed; the index was dated anew: \(holdings)"
        case .unchanged: "nothing changed: \(holdings)"
        case .dryRun:
            report.refusal == nil
                ? "dry run, nothing written: there would be \(holdings)"
                : "dry run, nothing written: a guard would refuse this list"
        case .refused: "refused: the index in use stays"
        }
    }

    private var holdings: String {
        var parts = [Words.count(report.recipients, "recipient")]
        if report.catchAllDomains > 0 { parts.append(Words.count(report.catchAllDomains, "catch-all domain")) }
        if report.aliasDomains > 0 { parts.append(Words.count(report.aliasDomains, "alias domain")) }
        guard let last = parts.popLast(), !parts.isEmpty else { return Words.count(report.recipients, "recipient") }
        return parts.joined(separator: ", ") + " and " + last
    }

    private func source(_ source: SourceState) -> [String] {
        let name = "source \(source.name.escapedForMessage) (\(source.type))"
        switch source.reading {
        case .failed: return ["\(name): not read; its last list stays in use"]
        case .unchanged:
            let state =
                source.progress.map { "still being read since \(Words.time($0.since)); its last list stays in use" }
                ?? "unchanged"
            return ["\(name): \(state), \(source.recipients) listed"] + faults(source)
        case .full, .changes: break
        }
        let what = source.reading == .changes ? "changed " : ""
        var lines = [
            "\(name): \(source.report.read == 1 ? "1 \(what)entry" : "\(source.report.read) \(what)entries"), \(source.recipients) listed"
        ]
        if let server = source.report.server {
            lines.append("  from \(server)\(source.report.method.map { " by \($0)" } ?? "")")
        }
        if source.report.duplicates > 0 { lines.append("  \(source.report.duplicates) repeated") }
        if source.report.foreign.count > 0 {
            let first = source.report.foreign.count > source.report.foreign.first.count ? "; the first" : ""
            lines.append("  \(source.report.foreign.count) in domains that it may not feed, left out\(first):")
            lines += source.report.foreign.first.map { "    \($0.escapedForMessage)" }
        }
        // In a directory, one without a domain is a fault.
        let isTable = source.type == "file" || source.type == "command"
        let skipped = [
            (source.report.skipped.domains, "domain by itself", "domains by themselves"),
            (isTable ? source.report.skipped.withoutDomain : 0, "user without a domain", "users without a domain"),
            (
                source.report.skipped.otherTags, "entry that isn't about recipients",
                "entries that aren't about recipients"
            ),
            (source.report.skipped.wildcards, "wildcard", "wildcards"),
            (
                source.report.skipped.otherProtocols, "address of another kind than SMTP",
                "addresses of other kinds than SMTP"
            ),
            (source.report.skipped.disabled, "disabled entry", "disabled entries"),
            (source.report.skipped.excluded, "entry below exclude_bases", "entries below exclude_bases"),
        ]
        for (count, one, many) in skipped where count > 0 {
            lines.append("  \(count) \(count == 1 ? one : many), passed over")
        }
        if source.report.skipped.refusing > 0 {
            lines.append("  \(Words.count(source.report.skipped.refusing, "recipient")) that the table refuses")
        }
        if let unlisted = source.report.unlistedTargets {
            lines.append(
                "  \(Words.count(unlisted.count, "alias", plural: "aliases")) with a target that no source lists:")
            lines += unlisted.first.map { "    \($0.escapedForMessage)" }
            if unlisted.count > unlisted.first.count {
                lines.append("    … and \(unlisted.count - unlisted.first.count) more")
            }
        }
        return lines + faults(source)
    }

    /// The faulty entries, with what to mend in them.
    private func faults(_ source: SourceState) -> [String] {
        let kinds = [
            (source.report.faults, "faulty", "which list nobody"),
            (source.report.domainFaults, "faulty", "of relay domains"),
            (source.report.doubts, "doubtful", "which are listed"),
        ]
        return kinds.flatMap { faults, kind, what -> [String] in
            guard faults.count > 0 else { return [] }
            let entries = faults.count == 1 ? "1 \(kind) entry" : "\(faults.count) \(kind) entries"
            let what =
                faults.count == 1
                ? what.replacing("which list ", with: "which lists ").replacing("which are", with: "which is") : what
            let more = faults.count - faults.first.count
            return ["  \(entries), \(what):"] + faults.first.map { "    \($0.description.escapedForMessage)" }
                + (more > 0 ? ["    … and \(more) more"] : [])
        }
    }

    /// The first ten addresses, and how many more.
    private func change(_ title: String, _ sign: String, _ list: ChangeList) -> [String] {
        guard list.count > 0 else { return [] }
        let shown = list.addresses.prefix(10)
        var lines = ["\(list.count) \(title):"] + shown.map { "  \(sign) \($0.escapedForMessage)" }
        if list.count > shown.count { lines.append("  \(sign) … and \(list.count - shown.count) more") }
        return lines
    }
}
