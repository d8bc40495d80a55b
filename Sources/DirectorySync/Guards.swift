import Foundation
import RecipientIndex

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
    func violations(
        _ comparison: Comparison, sources: [String], configured: Int, read: [Bool], foreign: Int?
    ) -> [Refusal.Violation] {
        var found: [Refusal.Violation] = []
        shrink("all", "the list", comparison.total, mayEmpty: false, &found)
        if comparison.restricted > allowance(of: comparison.total.before) {
            found.append(
                .init(
                    rule: .maxShrink, scope: "all",
                    text:
                        "\(comparison.restricted) of \(recipients(comparison.total.before)) would become internal-only or "
                        + "disabled (max_shrink allows \(percent(maxShrink)))"))
        }
        if let foreign {
            let lost = max(0, foreign - comparison.heldByForeign)
            let tally = Comparison.Tally(before: foreign, after: comparison.listed, lost: lost)
            shrink(
                "all", "the published index, which this state did not make (so addresses can't be named),", tally,
                mayEmpty: false, &found)
        }
        for (place, tally) in comparison.sources.enumerated() {
            let name = "source \"\(sources[place])\""
            guard place < configured else {
                shrink("source \(sources[place])", name + ", no longer configured,", tally, mayEmpty: true, &found)
                continue
            }
            guard read[place] else { continue }
            if tally.after == 0, tally.before > 0 {
                found.append(
                    .init(
                        rule: .maxShrink, scope: "source \(sources[place])",
                        text: "\(name) lists nothing any more, where it listed \(recipients(tally.before))"))
            } else {
                shrink("source \(sources[place])", name, tally, mayEmpty: true, &found)
            }
        }
        for (number, tally) in comparison.byDomain.enumerated() where tally.lost > 0 {
            let domain = comparison.domains.name(number)
            shrink("domain \(domain)", "domain \(domain)", tally, mayEmpty: false, &found)
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

    private func shrink(
        _ scope: String, _ name: String, _ tally: Comparison.Tally, mayEmpty: Bool,
        _ found: inout [Refusal.Violation]
    ) {
        if !mayEmpty, tally.before > 0, tally.after == 0 {
            found.append(
                .init(rule: .maxShrink, scope: scope, text: "\(name) would lose all of its \(recipients(tally.before))")
            )
        } else if tally.lost > allowance(of: tally.before) {
            let text =
                "\(name) would lose \(tally.lost) of \(recipients(tally.before)) "
                + "(\(percent(Double(tally.lost) / Double(max(1, tally.before)))); "
                + "max_shrink allows \(percent(maxShrink)), here \(allowance(of: tally.before)))"
            found.append(.init(rule: .maxShrink, scope: scope, text: text))
        }
    }

    private func recipients(_ count: Int) -> String { count == 1 ? "1 recipient" : "\(count) recipients" }

    private func percent(_ share: Double) -> String {
        let tenths = (share * 1_000).rounded() / 10
        return tenths == tenths.rounded() ? "\(Int(exactly: tenths) ?? 100) %" : "\(tenths) %"
    }
}

extension Refusal {
    /// The refusal in words: reasons, what would have gone, what stays, what to do.
    func text(inForce decision: Decision) -> String {
        let shown = violations.prefix(10).map(\.text)
        var lines = ["the new list is refused: " + shown.joined(separator: "; ")]
        if violations.count > shown.count { lines[0] += "; and \(violations.count - shown.count) more reasons" }
        if removed > 0 {
            let ellipsis = removed > first.count ? ", …" : ""
            lines.append("\(removed) would go: " + first.joined(separator: ", ") + ellipsis)
        }
        lines.append(
            decision.generation > 0
                ? "the index of \(decision.created.formatted(.iso8601)) with \(decision.recipients) recipients stays in force"
                : "no index was published")
        lines.append(
            acceptable
                ? "if this is meant: postern sync --accept-shrink"
                : "--accept-shrink doesn't overrule minimum and canaries: mend the source or the configuration")
        return lines.joined(separator: "\n")
    }
}
