public import Foundation
import RecipientIndex

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
        /// Whether it is about a relay domain itself rather than recipients.
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

    /// Whether the addresses that it would remove are in the state, so that only those can be accepted; a refusal of an older version
    /// has none there.
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
        var lines = reasons
        lines[0] = "the guards refused the new list: " + lines[0]
        let (created, recipients) = unknown.map { ($0.created, $0.recipients) } ?? (list.created, list.recipients)
        lines.append(
            list.generation > 0 || unknown != nil
                ? "the index of \(created.formatted(.iso8601)) with \(recipients) recipients stays in force"
                : "no index has been published yet")
        lines.append(
            acceptable
                ? "if this is intended: postern sync --accept-shrink accepts these losses, and no later ones"
                : "--accept-shrink doesn't overrule minimum and canaries: correct the source or the configuration")
        return lines.joined(separator: "\n")
    }
}

/// A relay domain that a new list no longer has, or has in another way, with a clause that says so.
struct RelayDomainChange {
    var domain: String
    var text: String
}
