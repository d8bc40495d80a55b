import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSync
import RejectionLog
import System

/// A verdict and everything that led to it, as `postern check` shows it.
struct VerdictExplanation: Encodable {
    /// A configuration key that the verdict depends on.
    struct Setting: Encodable {
        let key: String
        /// The file and line where the key is set; nil if it has its default.
        let place: String?
        /// The line of the file.
        let text: String?
    }

    /// A source that lists the recipient.
    struct Source: Encodable {
        let name: String
        let type: String
        /// The place in the source, such as `line 17 of /etc/postfix/virtual`; nil if the sync's state doesn't have it.
        let origin: String?
    }

    /// When a recipient left the list, and when it will be rejected.
    struct Departure: Encodable {
        /// Since when no source lists the recipient.
        let left: Date
        /// When the recipient will be rejected.
        let rejectedFrom: Date
        /// The names of the sources that listed the recipient last.
        let sources: [String]

        /// The departure in words.
        var text: String {
            let names = sources.map(\.escapedForMessage).joined(separator: ", ")
            return "left \(names.isEmpty ? "the list" : names) at \(Words.time(left)); rejected from "
                + "\(Words.time(rejectedFrom)) on"
        }
    }

    let address: String
    let outcome: Outcome
    /// The outcome as `check --batch` prints it.
    let verdict: String
    let reason: String
    /// The name of the verdict's rule.
    let rule: String
    let explanation: String
    let reply: String?
    let observed: Bool
    /// The address that was judged in place of the given one: without its BATV tag, or in the domain that its own is an alias of.
    let judgedAs: String?
    /// For each alias domain that led to the judged address, a clause such as `alias.example is an alias of example.com`.
    private let aliases: [String]
    let lookedUp: [String]
    let domain: String?
    let client: String?
    let trusted: Bool
    /// Whether the client is exempt from the harvest limit.
    let harvestExempt: Bool
    let decidedBy: [Setting]
    let sources: [Source]
    /// When a recipient that is leaving left the list; nil if the sync's state doesn't have it.
    let departure: Departure?
    /// The day on which an unlisted recipient last sent through this gateway, as 2026-11-30; nil if it hasn't sent.
    let lastSent: String?
    let index: String

    private enum CodingKeys: CodingKey {
        case address, verdict, reason, rule, explanation, reply, observed, judgedAs, lookedUp
        case domain, client, trusted, harvestExempt, decidedBy, sources, departure, lastSent, index
    }

    init(
        of address: String, client: String?, trust: ClientTrust, index: IndexSnapshot?, policy: Policy,
        senders: LoggedSenders, configuration: Configuration
    ) {
        let recipient = Result { () throws(AddressError) in try RecipientAddress(path: address) }
        let now = Date()
        let verdict = policy.verdict(
            for: recipient, client: trust, index: index, senders: senders.lately,
            now: Int64(now.timeIntervalSince1970))
        let parsed = try? recipient.get()
        let relayDomain = verdict.domain.map { configuration.domains[$0] }
        let ownDomain = verdict.countedDomain.map { configuration.domains[$0] }

        self.address = address
        self.client = client
        outcome = verdict.outcome
        self.verdict = verdict.outcome.verdictWord
        reason = verdict.reason.name
        rule = verdict.rule.rawValue
        trusted = trust.isTrusted
        harvestExempt = policy.exemptsFromHarvest(client.flatMap { try? IPAddress($0) })
        observed = verdict.outcome != .accepted && policy.observes(verdict)
        var explanation = verdict.explanation
        if case .failure(let error) = recipient { explanation += ": \(error)" }
        if verdict.reason != .srs, verdict.outcome == .rejected, parsed?.isForwardersOwn == true, let relayDomain {
            explanation +=
                relayDomain.rules.srs
                ? "; an address that a forwarder has rewritten (SRS) is valid for bounces only: check it with --bounce"
                : "; it is an address that a forwarder has rewritten (SRS), and recipients.srs isn't set"
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
            // The recipient was looked up in each domain of the chain.
            while let address = judged, aliases.count <= Policy.longestAliasChain, let moved = policy.aliased(address) {
                let settings = policy.settings(of: address)
                candidates += [
                    address.key,
                    settings.flatMap { address.withoutDetail(delimiters: DelimiterSet($0.delimiter)) }?.key,
                ].compactMap(\.self)
                aliases.append("\(address.domain) is an alias of \(moved.domain)")
                judged = moved
                if let inner = policy.settings(of: moved)?.batv == true ? moved.withoutBounceTag : nil {
                    judged = inner
                }
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
            // The domain's own list may be set, too.
            decidedBy = Self.settings("recipients.blocked", domain: nil, configuration)
        } else {
            decidedBy = verdict.decidingKeys.flatMap { Self.settings($0, domain: relayDomain?.name, configuration) }
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

    /// The text that `postern check` prints.
    var text: String {
        var lines = [
            "\(address.escapedForMessage): \(verdict)\(observed ? " (observe mode: only logged)" : "")"
        ]
        func row(_ title: String, _ value: String) {
            lines.append("  \(title.padding(toLength: 11, withPad: " ", startingAt: 0)) \(value)")
        }
        if let reply { row("reply", reply) }
        row("reason", "\(reason) (rule: \(rule))")
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

    /// When a recipient, given by its key, left the list; nil if the sync's state doesn't have it.
    private static func departure(of key: String, _ configuration: Configuration) -> Departure? {
        let found = RecipientSync.Departure(
            of: key, state: configuration.sync.state, grace: configuration.sync.grace)
        return found.map { found in
            Departure(
                left: found.left, rejectedFrom: Date(timeIntervalSinceNow: found.remaining), sources: found.sources)
        }
    }

    /// The pattern that decided, with its place in the configuration.
    private static func setting(ofPattern position: Int, _ configuration: Configuration) -> Setting {
        let key = "recipients.patterns[\(position)]"
        let pattern = configuration.policy.patterns[position]
        let line = configuration.lines.line(of: "\(key).match")
        return Setting(
            key: key, place: line.map { "\(configuration.file):\($0)" },
            text: "\(key): match '\(pattern.text)', action \(pattern.action.rawValue)")
    }

    /// Where a key is set for the domain: in its `[[domain]]`, else in the global section. For a key that isn't set, a
    /// `Setting` whose `place` is nil, except for keys that decide nothing then.
    private static func settings(_ key: String, domain: String?, _ configuration: Configuration) -> [Setting] {
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

extension String {
    fileprivate var trimmingAngleBrackets: String {
        hasPrefix("<") && hasSuffix(">") ? String(dropFirst().dropLast()) : self
    }
}
