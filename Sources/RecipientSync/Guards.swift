import Foundation
import RecipientIndex
import RecipientSources
import System

/// Judges a new list before anything of it is written.
struct Guards {
    let maxShrink: Double
    let minimum: Int
    let canaries: [String]

    /// How many of so many recipients may go at once: `max_shrink` of them, but always one, or a short list could never lose
    /// anyone. Not that one if `max_shrink` is 0.
    func allowance(of count: Int) -> Int {
        guard maxShrink > 0 else { return 0 }
        return max(1, Int(exactly: (Double(count) * min(maxShrink, 1)).rounded(.down)) ?? 0)
    }

    /// Every reason to refuse a list; empty if there is none.
    ///
    /// - Parameters:
    ///   - sources: the names for the tallies of the comparison; `configured` of them are still configured.
    ///   - read: for each configured source, whether it was read anew.
    ///   - foreign: how many addresses the published snapshot of unknown origin has.
    ///   - before: what was lost within the window before.
    func violations(
        _ comparison: Comparison, sources: [String], configured: Int, read: [Bool], foreign: Int?,
        before: WindowLosses = WindowLosses()
    ) -> [Refusal.Violation] {
        var found: [Refusal.Violation] = []
        shrink("all", "the list", comparison.total, before.all, since: before.since, mayEmpty: false, &found)
        if let foreign {
            let lost = max(0, foreign - comparison.heldByForeign)
            let tally = Comparison.Tally(before: foreign, after: comparison.listed, lost: lost)
            let others = found.count
            shrink(
                "all", "the published index, which this state did not make (so addresses can't be named),", tally,
                .init(), since: before.since, mayEmpty: false, &found)
            for place in found.indices.dropFirst(others) { found[place].count = lost }
        }
        for (place, tally) in comparison.sources.enumerated() {
            let name = "source \"\(sources[place])\""
            let gone = before.sources[sources[place]] ?? .init()
            guard place < configured else {
                shrink(
                    "source \(sources[place])", name + ", no longer configured,", tally, gone, since: before.since,
                    mayEmpty: true,
                    &found)
                continue
            }
            guard read[place] else { continue }
            if tally.after == 0, tally.before > 0 {
                found.append(
                    .init(
                        rule: .maxShrink, scope: "source \(sources[place])",
                        text: "\(name) lists nothing any more, where it listed \(recipients(tally.before))"))
            } else {
                shrink("source \(sources[place])", name, tally, gone, since: before.since, mayEmpty: true, &found)
            }
        }
        for (number, tally) in comparison.byDomain.enumerated() where tally.lost + tally.restricted > 0 {
            let domain = comparison.domains[number]
            let gone = before.domains[domain] ?? .init()
            shrink("domain \(domain)", "domain \(domain)", tally, gone, since: before.since, mayEmpty: false, &found)
        }
        if comparison.listed < minimum {
            found.append(
                .init(
                    rule: .minimum, scope: "all",
                    text: "the new list holds \(recipients(comparison.listed)), fewer than minimum = \(minimum)"))
        }
        for (canary, isFound) in zip(canaries, comparison.canariesFound) where !isFound {
            found.append(.init(rule: .canaries, scope: "all", text: "the canary \(canary) is not listed"))
        }
        return found
    }

    /// The sources that are read for the first time, and more than a tenth of whose entries are malformed or can't be reached; a single
    /// one never counts.
    func firstLists(_ sources: [SourceState], isFirst: (String) -> Bool) -> [Refusal.Violation] {
        // An entry of a directory may have several values, good and bad.
        func values(_ source: SourceState) -> Int { max(source.report.read, source.recipients + source.report.faulty) }
        return sources.filter {
            isFirst($0.name) && $0.reading == .full && $0.report.faulty > 1 && $0.report.faulty * 10 > values($0)
        }.map { source in
            let part = percent(Double(source.report.faulty) / Double(max(1, values(source))))
            return .init(
                rule: .faulty, scope: "source \(source.name)",
                text:
                    "\(source.report.faulty) of the \(values(source)) entries (\(part)) that source \"\(source.name)\" lists for the "
                    + "first time are malformed or can't be reached; 10 % are allowed")
        }
    }

    /// A reason to refuse a list that has fewer addresses than one whose addresses aren't known any more.
    func fewer(than before: Int?, _ listed: Int) -> [Refusal.Violation] {
        guard let before, before - listed > allowance(of: before) else { return [] }
        return [
            .init(
                rule: .maxShrink, scope: "all",
                text:
                    "the list would have \(listed) where it had \(recipients(before)), some of which the sync state has lost, "
                    + "so that they can't be named", count: before - listed)
        ]
    }

    /// Adds the reasons that lie in one scope: the list, a source or a domain.
    private func shrink(
        _ scope: String, _ name: String, _ tally: Comparison.Tally, _ earlier: WindowLosses.Count, since: Date?,
        mayEmpty: Bool, _ found: inout [Refusal.Violation]
    ) {
        // The list as it was when the window began, but for what has been added.
        let base = tally.before + earlier.gone
        if !mayEmpty, tally.before > 0, tally.after == 0 {
            found.append(
                .init(rule: .maxShrink, scope: scope, text: "\(name) would lose all of its \(recipients(tally.before))")
            )
        } else if tally.lost > 0, tally.lost + earlier.gone > allowance(of: base) {
            found.append(
                .init(
                    rule: .maxShrink, scope: scope,
                    text: "\(name) would lose " + share(tally.lost, earlier.gone, of: base, since: since)))
        }
        if tally.restricted > 0, tally.restricted + earlier.restricted > allowance(of: base) {
            found.append(
                .init(
                    rule: .maxShrink, scope: scope,
                    text: "in \(name), " + share(tally.restricted, earlier.restricted, of: base, since: since)
                        + " would become internal-only or disabled"))
        }
    }

    /// `12 of 100 recipients (12 %; max_shrink allows 10 %, here 10)`, with what went before.
    private func share(_ now: Int, _ earlier: Int, of base: Int, since: Date?) -> String {
        let part = percent(Double(now + earlier) / Double(max(1, base)))
        var text = "\(now + earlier) of \(recipients(base)) (\(part); max_shrink allows \(percent(maxShrink)), "
        text += "here \(allowance(of: base))"
        if earlier > 0 {
            text += "; \(now) now and \(earlier) before"
            if let since { text += ", since \(since.formatted(.iso8601))" }
        }
        return text + ")"
    }

    private func recipients(_ count: Int) -> String { count == 1 ? "1 recipient" : "\(count) recipients" }

    private func percent(_ share: Double) -> String {
        let tenths = (share * 1_000).rounded() / 10
        return tenths == tenths.rounded() ? "\(Int(exactly: tenths) ?? 100) %" : "\(tenths) %"
    }
}

extension Refusal {
    /// What would be refused, in words: the reasons, and what would go; a line each.
    public var reasons: [String] {
        let shown = violations.prefix(10).map(\.text)
        var lines = [shown.joined(separator: "; ")]
        if violations.count > shown.count { lines[0] += "; and \(violations.count - shown.count) more reasons" }
        if removed > 0 {
            let ellipsis = removed > first.count ? ", …" : ""
            lines.append("\(removed) would go: " + first.joined(separator: ", ") + ellipsis)
        }
        if let restricted, restricted > 0 {
            lines.append("\(restricted) would become internal-only or disabled")
        }
        return lines
    }

    /// The refusal in words: reasons, what would have gone, what stays, what to do.
    ///
    /// - Parameter foreign: the published index, where the state did not make it.
    func text(inForce decision: Decision, _ foreign: RecipientIndex.IndexInfo? = nil) -> String {
        var lines = reasons
        lines[0] = "the new list is refused: " + lines[0]
        let (created, recipients) =
            foreign.map { ($0.created, $0.recipients) } ?? (decision.created, decision.recipients)
        lines.append(
            decision.generation > 0 || foreign != nil
                ? "the index of \(created.formatted(.iso8601)) with \(recipients) recipients stays in force"
                : "no index was published")
        lines.append(
            acceptable
                ? "if this is meant: postern sync --accept-shrink accepts this, and nothing that goes later"
                : "--accept-shrink doesn't overrule minimum and canaries: mend the source or the configuration")
        return lines.joined(separator: "\n")
    }
}
