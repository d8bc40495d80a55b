import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSync
import System

/// A verdict with all that led to it, as `postern check` tells it.
struct VerdictExplanation: Encodable {
    /// A configuration key that had a part in the verdict.
    struct Setting: Encodable {
        let key: String
        /// The file and line where it is set; nil where it stands at its default.
        let place: String?
        /// The line as it stands in the file.
        let text: String?
    }

    /// A source that lists the recipient.
    struct Source: Encodable {
        let name: String
        let type: String
        /// Where in the source, such as `line 17 of /etc/postfix/virtual`; nil where that can't be told.
        let origin: String?
    }

    /// The time of grace of a recipient that has left the list.
    struct Departure: Encodable {
        /// When no source listed it any more.
        let left: Date
        /// From when on it is rejected.
        let rejectedFrom: Date
        /// The names of the sources that listed it last.
        let sources: [String]

        /// In words, for a person.
        var text: String {
            let names = sources.map(\.escapedForMessage).joined(separator: ", ")
            return "left \(names.isEmpty ? "the list" : names) at \(Words.time(left)); rejected from "
                + "\(Words.time(rejectedFrom)) on"
        }
    }

    let address: String
    let action: Verdict.Action
    let reason: String
    let rule: Int
    let explanation: String
    let reply: String?
    let observed: Bool
    /// The address that was judged in the place of the one given: without its BATV tag, or in the domain that its own is an alias of.
    let judgedAs: String?
    /// The alias domains on the way, each in a clause.
    private let aliases: [String]
    let lookedUp: [String]
    let domain: String?
    let client: String?
    let trusted: Bool
    /// Whether the harvest limit doesn't hold for the client.
    let harvestExempt: Bool
    let decidedBy: [Setting]
    let sources: [Source]
    /// When a recipient that is leaving left the list, and from when on it is rejected; nil where that can't be told.
    let departure: Departure?
    /// The day on which a recipient that isn't listed last sent through this gateway, as 2026-11-30.
    let lastSent: String?
    let index: String

    enum CodingKeys: String, CodingKey {
        case address
        case action = "verdict"
        case reason, rule, explanation, reply, observed
        case judgedAs, lookedUp
        case domain, client, trusted, harvestExempt
        case decidedBy
        case sources, departure, lastSent, index
    }

    init(
        of address: String, client: String?, standing: ClientStanding, index: IndexSnapshot?, policy: Policy,
        senders: LoggedSenders, configuration: Configuration
    ) {
        let recipient = Result { () throws(AddressError) in try RecipientAddress(path: address) }
        let now = Date()
        let verdict = policy.verdict(
            for: recipient, client: standing, index: index, senders: senders.lately,
            now: Int64(now.timeIntervalSince1970))
        let parsed = try? recipient.get()
        let relayDomain = verdict.domain.map { configuration.domains[$0] }
        let ownDomain = verdict.countedDomain.map { configuration.domains[$0] }

        self.address = address
        self.client = client
        action = verdict.action
        reason = verdict.reason.name
        rule = verdict.rule
        trusted = standing.isTrusted
        harvestExempt = policy.exemptsFromHarvest(client.flatMap { try? IPAddress($0) })
        observed = verdict.action != .accept && policy.observes(verdict)
        var explanation = verdict.explanation
        if case .failure(let error) = recipient { explanation += ": \(error)" }
        if verdict.reason != .srs, verdict.action == .reject, parsed?.isForwardersOwn == true, let relayDomain {
            explanation +=
                relayDomain.rules.srs
                ? "; an address that a forwarder has rewritten (SRS) takes bounces only, which --bounce is for"
                : "; it is one that a forwarder has rewritten (SRS), and recipients.srs isn't set"
        }
        self.explanation = explanation
        reply = verdict.reply.map {
            policy.template($0, domain: verdict.domain).text(
                recipient: address.trimmingAngleBrackets.escapedForMessage, domain: parsed?.domain ?? "",
                client: client ?? "")
        }
        let inner = ownDomain?.rules.batv == true ? parsed?.withoutBounceTag : nil
        var judged = inner ?? parsed
        var candidates: [String] = []
        var aliases: [String] = []
        if verdict.alias != nil {
            // Each domain on the way was looked into.
            while let address = judged, aliases.count <= Policy.longestAliasChain, let moved = policy.aliased(address) {
                let rules = policy.rules(of: address)
                candidates += [
                    address.key, rules.flatMap { address.withoutDetail(delimiters: DelimiterSet($0.delimiter)) }?.key,
                ].compactMap(\.self)
                aliases.append("\(address.domain) is an alias of \(moved.domain)")
                judged = moved
                if let inner = policy.rules(of: moved)?.batv == true ? moved.withoutBounceTag : nil { judged = inner }
            }
        }
        judgedAs = inner == nil && aliases.isEmpty ? nil : judged?.key
        self.aliases = aliases
        let bare = relayDomain.flatMap { relay in
            judged?.withoutDetail(delimiters: DelimiterSet(relay.rules.delimiter))
        }
        candidates += [judged, bare].compactMap { $0?.key }
        lookedUp = candidates
        let alias = ownDomain?.aliasSource.map { "alias by source \($0)" } ?? ownDomain.map { _ in "alias_of" }
        domain = relayDomain.map { relay in
            guard verdict.alias != nil, let ownDomain, let alias else { return "\(relay.name) (\(relay.key))" }
            return "\(relay.name) (\(relay.key)), for \(ownDomain.name) (\(ownDomain.key); \(alias))"
        }
        if let pattern = verdict.pattern {
            decidedBy = [Self.setting(ofPattern: pattern, configuration)]
        } else if verdict.reason == .blocked, candidates.contains(where: configuration.policy.blocked.contains),
            configuration.lines.exactLine(of: "recipients.blocked") != nil
        {
            // Not the list of its domain, which may be there, too.
            decidedBy = Self.settings("recipients.blocked", nil, configuration)
        } else {
            decidedBy = verdict.decidingKeys.flatMap { Self.settings($0, relayDomain?.name, configuration) }
        }
        var keys = candidates
        if let judged, judged.hasDomain { keys.append("@\(judged.domain)") }
        sources =
            keys.lazy.map { key in
                Provenance.all(of: key, state: configuration.sync.state).map {
                    Source(name: $0.source, type: $0.type, origin: $0.origin)
                }
            }.first { !$0.isEmpty } ?? []
        lastSent =
            verdict.reason == .unknown || verdict.reason == .unlistedSender
            ? candidates.lazy.compactMap { senders.day(of: $0) }.first : nil
        departure =
            verdict.reason == .leaving
            ? keys.lazy.compactMap { Self.departure(of: $0, configuration) }.first : nil
        if let index {
            let age = Words.age(of: index.info.created, now: now)
            self.index =
                "\(configuration.index.path): \(Words.count(index.info.recipients, "recipient")), "
                + (age.hasPrefix("dated") ? age : "made \(age)")
        } else {
            self.index = "\(configuration.index.path): none"
        }
    }

    /// The explanation for a person, at most 80 columns where the values allow.
    var text: String {
        var lines = [
            "\(address.escapedForMessage): \(action.rawValue)\(observed ? " (observe mode: only logged)" : "")"
        ]
        func row(_ title: String, _ value: String) {
            lines.append("  \(title.padding(toLength: 11, withPad: " ", startingAt: 0)) \(value)")
        }
        if let reply { row("reply", reply) }
        row("reason", "\(reason) (rule \(rule))")
        row("because", explanation)
        for (position, setting) in decidedBy.enumerated() {
            row(
                position == 0 ? "decided by" : "",
                setting.place.map { "\($0): \(setting.text ?? setting.key)" } ?? "\(setting.key), at its default")
        }
        if let domain { row("domain", domain) }
        if let judgedAs {
            let why = aliases.isEmpty ? "the address inside a BATV one" : aliases.joined(separator: ", ")
            row("judged as", "\(judgedAs) (\(why))".escapedForMessage)
        }
        if !lookedUp.isEmpty { row("looked up", lookedUp.joined(separator: ", then ").escapedForMessage) }
        for source in sources {
            let origin = source.origin.map { ": \($0.escapedForMessage)" } ?? ""
            row("source", "\(source.name.escapedForMessage) (\(source.type))\(origin)")
        }
        if let lastSent { row("sender", "unlisted-sender: sent through this gateway on \(lastSent)") }
        if let departure { row("leaving", departure.text) }
        row(
            "client",
            "\(client ?? "any")\(trusted ? ", trusted" : ", not trusted")\(harvestExempt ? ", harvest.exempt" : "")")
        row("index", index)
        return lines.joined(separator: "\n")
    }

    /// When a key left the list, by the sync's state; nil where the state doesn't know.
    private static func departure(of key: String, _ configuration: Configuration) -> Departure? {
        let found = RecipientSync.Departure(
            of: key, state: configuration.sync.state, grace: configuration.sync.grace)
        return found.map { found in
            Departure(
                left: found.left, rejectedFrom: Date(timeIntervalSinceNow: found.remaining), sources: found.sources)
        }
    }

    /// The pattern that decided, as it is written.
    private static func setting(ofPattern position: Int, _ configuration: Configuration) -> Setting {
        let key = "recipients.patterns[\(position)]"
        let pattern = configuration.policy.patterns[position]
        let line = configuration.lines.line(of: "\(key).match")
        return Setting(
            key: key, place: line.map { "\(configuration.file):\($0)" },
            text: "\(key): match '\(pattern.text)', action \(pattern.action.rawValue)")
    }

    /// The places where a key is set for this domain: in its `[[domain]]`, else in the global section, else nowhere.
    private static func settings(_ key: String, _ domain: String?, _ configuration: Configuration) -> [Setting] {
        let last = key.split(separator: ".").last.map(String.init) ?? key
        var found: [Setting] = []
        for place in configuration.lines.domainTables(named: domain) + [key] {
            let name = place == key ? key : "\(place).\(last)"
            guard let line = configuration.lines.exactLine(of: name) else { continue }
            found.append(
                Setting(key: name, place: "\(configuration.file):\(line)", text: configuration.lines.text(line)))
            break
        }
        if found.isEmpty && !["relay.domains_from", "relay.subdomains", "domain.catch_all"].contains(key) {
            found.append(Setting(key: key, place: nil, text: nil))
        }
        return found
    }
}

extension Verdict.Action: Encodable {}

extension String {
    fileprivate var trimmingAngleBrackets: String {
        hasPrefix("<") && hasSuffix(">") ? String(dropFirst().dropLast()) : self
    }
}
