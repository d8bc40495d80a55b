public import Foundation
import RecipientIndex
import RecipientSources
import System

/// The guards that a new list must pass before any of it is written.
struct Guards {
    let maxShrink: Double
    let minimum: Int
    let canaries: [String]

    /// How many recipients of a list of this size may go within the window: `max_shrink` of them, but at least one, unless `max_shrink`
    /// is 0. Otherwise a short list could never lose a recipient.
    func allowance(of count: Int) -> Int {
        guard maxShrink > 0 else { return 0 }
        return max(1, Int(exactly: (Double(count) * min(maxShrink, 1)).rounded(.down)) ?? 0)
    }

    /// The whole list, one source or one domain: the guards check each.
    private struct Part {
        /// The scope of its violations.
        var scope: String
        /// The subject of its messages.
        var name: String
        var counts: ListChanges.Counts
        /// The recipients that the part lost within the window before this sync.
        var earlier = LossCount()
        /// Whether the part may lose all its recipients if the allowance covers them.
        var mayEmpty = false
    }

    /// Every reason to refuse a list; empty if there is none.
    ///
    /// - Parameters:
    ///   - sources: the names of the sources whose counts the changes have; the first `configured` of them are still configured.
    ///   - read: for each configured source, whether it was read anew.
    ///   - unknown: how many addresses the published snapshot has, if another state made it.
    ///   - before: what was lost within the window before.
    func violations(
        _ changes: ListChanges, sources: [String], configured: Int, read: [Bool], unknown: Int?,
        before: WindowLosses = WindowLosses()
    ) -> [Refusal.Violation] {
        var found = violations(
            of: Part(scope: "all", name: "the list", counts: changes.total, earlier: before.all), since: before.since)
        if let unknown {
            let lost = max(0, unknown - changes.heldByUnknown)
            let part = Part(
                scope: "all",
                name: "the published index, which another sync state made (its addresses can't be named),",
                counts: .init(before: unknown, after: changes.size.listed, losses: LossCount(gone: lost)))
            found += violations(of: part, since: before.since, count: lost)
        }
        for (place, counts) in changes.sources.enumerated() {
            let isConfigured = place < configured
            guard !isConfigured || read[place] else { continue }
            let name = "source \"\(sources[place])\""
            let part = Part(
                scope: "source \(sources[place])", name: isConfigured ? name : name + ", no longer configured,",
                counts: counts, earlier: before.sources[sources[place]] ?? .init(), mayEmpty: true)
            if isConfigured, counts.after == 0, counts.before > 0 {
                let text = "\(name) lists no recipients any more; it listed \(recipients(counts.before))"
                found.append(.init(rule: .maxShrink, scope: part.scope, text: text))
            } else {
                found += violations(of: part, since: before.since)
            }
        }
        for (number, counts) in changes.byDomain.enumerated() where counts.losses != LossCount() {
            let domain = changes.domains[number]
            let part = Part(
                scope: "domain \(domain)", name: "domain \(domain)", counts: counts,
                earlier: before.domains[domain] ?? .init())
            found += violations(of: part, since: before.since)
        }
        if changes.size.listed < minimum {
            let text = "the new list holds \(recipients(changes.size.listed)), fewer than minimum = \(minimum)"
            found.append(.init(rule: .minimum, scope: "all", text: text))
        }
        for (canary, isFound) in zip(canaries, changes.canariesFound) where !isFound {
            found.append(.init(rule: .canaries, scope: "all", text: "the canary \(canary) is not listed"))
        }
        return found
    }

    /// The violations of sources that are read for the first time, if more than a tenth of their entries are malformed or unreachable. A
    /// single such entry is always allowed.
    func violations(ofFirstLists sources: [SourceState], isFirst: (String) -> Bool) -> [Refusal.Violation] {
        sources.filter { isFirst($0.name) }.compactMap { source in
            let faulty = source.report.faulty
            // An entry of a directory may have several values, good and bad.
            let values = max(source.report.read, source.recipients + faulty)
            guard source.reading == .full, faulty > 1, faulty * 10 > values else { return nil }
            let share = percent(Double(faulty) / Double(max(1, values)))
            let text =
                "\(faulty) of the \(values) entries (\(share)) that source \"\(source.name)\" lists for the first time "
                + "are malformed or can't be reached; 10 % are allowed"
            return .init(rule: .faulty, scope: "source \(source.name)", text: text)
        }
    }

    /// The violation of a list that is shorter than one whose addresses the state has lost.
    func violations(listed: Int, insteadOf before: Int) -> [Refusal.Violation] {
        guard before - listed > allowance(of: before) else { return [] }
        let text =
            "the list would have \(recipients(listed)) instead of \(before); the sync state has lost some of them, so that "
            + "their addresses can't be named"
        return [.init(rule: .maxShrink, scope: "all", text: text, count: before - listed)]
    }

    /// - Parameter count: how many recipients are lost, if their addresses aren't known.
    private func violations(of part: Part, since: Date?, count: Int? = nil) -> [Refusal.Violation] {
        var found: [Refusal.Violation] = []
        func add(_ text: String) {
            found.append(.init(rule: .maxShrink, scope: part.scope, text: text, count: count))
        }
        let (counts, losses, earlier) = (part.counts, part.counts.losses, part.earlier)
        // The size of the part when the window began, and what has been added since.
        let base = counts.before + earlier.gone
        if !part.mayEmpty, counts.before > 0, counts.after == 0 {
            add(
                "\(part.name) would lose \(counts.before == 1 ? "its only recipient" : "all of its \(recipients(counts.before))")"
            )
        } else if losses.gone > 0, losses.gone + earlier.gone > allowance(of: base) {
            add("\(part.name) would lose \(share(losses.gone, after: earlier.gone, of: base, since: since))")
        }
        if losses.restricted > 0, losses.restricted + earlier.restricted > allowance(of: base) {
            add(
                "in \(part.name), \(share(losses.restricted, after: earlier.restricted, of: base, since: since))"
                    + " would become internal-only or disabled")
        }
        return found
    }

    /// `12 of 100 recipients (12 %; max_shrink allows 10 %, here 10)`, with the losses of the window before.
    private func share(_ now: Int, after earlier: Int, of base: Int, since: Date?) -> String {
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

/// Why the guards refused a new list, and which recipients it would have removed.
public struct Refusal: Sendable, Codable, Equatable {
    /// A guard of the configuration.
    public enum Rule: String, Sendable, Codable {
        /// The list would lose more recipients than `max_shrink` allows, or all of a source or domain.
        case maxShrink = "max_shrink"
        /// The list holds fewer recipients than `minimum`.
        case minimum
        /// A canary isn't listed.
        case canaries
        /// More than a tenth of the entries of a source that is read for the first time are malformed or unreachable.
        case faulty
    }

    /// One reason to refuse a list.
    public struct Violation: Sendable, Codable, Equatable {
        /// The guard that the list violates.
        public var rule: Rule
        /// The part of the list: `all`, `source NAME`, `domain NAME` or `relay domain NAME`.
        public var scope: String
        /// The reason as a clause: how many recipients would go, out of how many, and what is allowed.
        public var text: String
        /// How many recipients would go, if their addresses aren't known.
        public var count: Int?

        /// Whether `--accept-shrink` may overrule it.
        var isAcceptable: Bool { rule == .maxShrink || rule == .faulty }
        /// Whether the list would lose a relay domain rather than recipients.
        var concernsRelayDomain: Bool { scope.hasPrefix("relay domain ") }

        /// The violation of a list that would no longer have a relay domain, or would have it in another way.
        static func relayDomain(_ change: RelayDomainChange) -> Violation {
            Violation(rule: .maxShrink, scope: "relay domain \(change.domain)", text: change.text)
        }
    }

    /// When the list was refused.
    public var time: Date
    /// Every reason.
    public var violations: [Violation]
    /// How many recipients would have been removed.
    public var removed: Int
    /// The first ten of them.
    public var first: [String]
    /// The names of the sources that were read for the list; nil from an older version.
    public var sources: [String]?
    /// How many recipients would have become internal-only or disabled; nil from an older version.
    public var restricted: Int?
    /// The relay domains that would have gone, or would have accepted listed recipients only; nil if there are none.
    public var domains: [String]?
    /// How many recipients would be removed by now, if more than when the refusal was shown.
    public var waiting: Int?

    /// Whether `--accept-shrink` lets this list pass; it overrules neither `minimum` nor `canaries`.
    public var acceptable: Bool { violations.allSatisfy(\.isAcceptable) }

    /// Whether the state has the addresses that the list would remove, so that only their loss can be accepted; an older version didn't
    /// store them.
    var namesLosses: Bool { restricted != nil }

    /// The reasons and the recipients that would be removed, for a person; a line each.
    public var reasons: [String] {
        let shown = violations.prefix(10).map(\.text)
        var lines = [shown.joined(separator: "; ")]
        if violations.count > shown.count { lines[0] += "; and \(violations.count - shown.count) more reasons" }
        if removed > 0 {
            let ellipsis = removed > first.count ? ", …" : ""
            lines.append("\(removed) would be removed: " + first.joined(separator: ", ") + ellipsis)
        }
        if let restricted, restricted > 0 { lines.append("\(restricted) would become internal-only or disabled") }
        return lines
    }

    /// The refusal for a person: reasons, recipients, what stays in force, and what to do; a line each.
    ///
    /// - Parameters:
    ///   - list: the list that stays in force.
    ///   - unknown: the published index, if another state made it.
    func text(inForce list: ApprovedList, unknown: IndexInfo?) -> String {
        let (created, recipients) = unknown.map { ($0.created, $0.recipients) } ?? (list.created, list.recipients)
        let inForce =
            list.generation > 0 || unknown != nil
            ? "the index of \(created.formatted(.iso8601)) with \(Words.count(recipients, "recipient")) stays in force"
            : "no index has been published yet"
        let remedy =
            acceptable
            ? "if this is intended: postern sync --accept-shrink accepts these losses, and no later ones"
            : "--accept-shrink doesn't overrule minimum and canaries: correct the source or the configuration"
        return "Postern rejects the new list: " + (reasons + [inForce, remedy]).joined(separator: "\n")
    }
}

/// A change of a relay domain that the guards refuse.
struct RelayDomainChange {
    var domain: String
    /// What would change, as a clause.
    var text: String
}
