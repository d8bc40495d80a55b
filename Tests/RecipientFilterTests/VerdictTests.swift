import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RejectionLog
import TestSupport
import Testing

/// The verdict table, from `verdicts.cases`.
@Suite struct VerdictTests {
    private static let now: Int64 = 1_800_000_000
    private static let recipients: [(String, RecipientFlags)] = [
        ("user@example.com", []), ("staff@example.com", .internalOnly), ("gone@example.com", .disabled),
        ("both@example.com", [.internalOnly, .disabled]), ("listed+news@example.com", []), ("user@example.org", []),
        ("user@sub.example.com", []), ("user@a.below.example", []), ("abuse+desk@example.com", .disabled),
        ("moved@example.com", .leaving), ("moved+lists@example.com", []), ("user+old@example.com", .leaving),
        ("moved+old@example.com", .leaving), ("gone+old@example.com", .leaving),
        ("stray@example.com", [.leaving, .disabled]),
        ("inside@example.com", [.leaving, .internalOnly]), ("moved@example.org", .leaving),
        ("user@xn--bcher-kva.example", []), ("grün@xn--bcher-kva.example", []),
        ("own@alias.example", .internalOnly),
    ]

    @Test func namesOfReasons() {
        #expect(
            Reason.allCases.map(\.name) == [
                "syntax", "postmaster", "relay", "trusted", "always", "blocked", "harvest", "no-index", "listed",
                "internal", "disabled", "catch-all", "stale-index", "unknown", "pattern", "srs", "leaving",
                "unlisted-sender",
            ])
    }

    @Test func `the verdicts are those of the table of cases`() throws {
        let folder = try TemporaryFolder()
        let day: TimeInterval = 86_400
        let today = Date(timeIntervalSince1970: TimeInterval(Self.now))
        let indexes: [String: IndexSnapshot?] = [
            "fresh": try folder.snapshot(Self.recipients, created: today - day),
            "old": try folder.snapshot(Self.recipients, created: today - 8 * day),
            "soon": try folder.snapshot(Self.recipients, created: today + 3_500),
            "future": try folder.snapshot(Self.recipients, created: today + 3_700),
            "all": try folder.snapshot(Self.recipients + [("@example.org", .catchAll)], created: today - day),
            "all-leaving": try folder.snapshot(
                Self.recipients
                    + [("@example.org", [.catchAll, .leaving]), ("@second.example", [.aliasDomain, .leaving])],
                created: today - day),
            "none": nil as IndexSnapshot?,
        ]
        let senders = UnlistedSenders()
        for key in ["sent@example.com", "sent@example.org", "user@example.com", "moved@example.com"] {
            senders.insert(key, day: Self.now / 86_400)
        }
        var policy = try Self.policy("")
        var cases = 0
        var rules: Set<VerdictRule> = []
        for (number, line) in try caseLines("verdicts.cases") {
            if line.hasPrefix("policy:") {
                policy = try Self.policy(String(line.dropFirst("policy:".count)))
                continue
            }
            let fields = line.components(separatedBy: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            try #require(fields.count == 7, "verdicts.cases:\(number)")
            let index = try #require(indexes[fields[2]], "verdicts.cases:\(number): index \(fields[2])")
            let client = ClientTrust(
                isTrusted: fields[1].hasPrefix("trusted"), isOverHarvestLimit: fields[1].contains("harvester"),
                isBounce: fields[1].hasSuffix("bounce"))
            let verdict = policy.verdict(
                for: Result { () throws(AddressError) in try RecipientAddress(path: fields[0]) }, client: client,
                index: index, senders: senders, now: Self.now)
            let observed = verdict.outcome != .accepted && policy.observes(verdict) ? " observed" : ""
            let reply =
                verdict.reply.map { kind in
                    let template = policy.template(kind, domain: verdict.domain)
                    return "\(template.code) \(template.enhancedCode)"
                } ?? "-"
            let given = [
                "\(verdict.outcome.verdictWord)\(observed)", verdict.reason.name,
                verdict.rule == .listed && verdict.withoutDetail
                    ? "listed without detail" : verdict.rule.rawValue, reply,
            ]
            #expect(given == Array(fields[3...]), "verdicts.cases:\(number): \(line)")
            cases += 1
            rules.insert(verdict.rule)
        }
        #expect(cases >= 90)
        #expect(rules.union([.aliasDomain]) == Set(VerdictRule.allCases))
    }

    /// The policy of a `policy:` line.
    private static func policy(_ line: String) throws -> Policy {
        var settings = Policy.Settings()
        settings.indexExpected = true
        settings.maximumIndexAge = 7 * 86_400
        var global = DomainSettings()
        var overrides: [String: [(String, String)]] = [:]
        func set(_ rules: inout DomainSettings, _ key: String, _ value: String) throws {
            switch (key, value) {
            case ("mode", _): rules.observe = value == "observe"
            case ("catch_all", _): rules.catchAll = value == "true"
            case ("delimiter", _): rules.delimiter = value
            case ("batv", _): rules.batv = value == "true"
            case ("srs", _): rules.srs = value == "true"
            case ("alias_of", _): rules.aliasOf = value
            case ("own_subdomains", _): rules.subdomains = value == "true"
            case ("own_blocked", _): rules.blocked = value.split(separator: ",").map(String.init)
            case (_, _) where key.hasPrefix("own_replies."):
                let kind = try #require(ReplyKind(key: String(key.dropFirst("own_replies.".count))))
                rules.replies[kind] = try ReplyTemplate(value, for: kind)
            case ("index_missing", _): rules.indexMissing = value == "accept" ? .accepted : .deferred
            case ("index_stale", "keep"): rules.indexStale = nil
            case ("index_stale", _): rules.indexStale = value == "accept" ? .accepted : .deferred
            case ("internal_only", _): rules.hideInternalOnly = value == "unknown"
            case ("unlisted_sender", _): rules.defersUnlistedSenders = value == "defer"
            case ("disabled", _): rules.hideDisabled = value == "unknown"
            default: throw TestFailure("policy key \(key)")
            }
        }
        for item in line.split(separator: ";") {
            let parts = item.trimmingCharacters(in: .whitespaces).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { throw TestFailure("policy item \(item)") }
            let (key, value) = (String(parts[0]), String(parts[1]))
            if let slash = key.firstIndex(of: "/") {
                overrides[String(key[..<slash]), default: []].append((String(key[key.index(after: slash)...]), value))
                continue
            }
            switch key {
            case "subdomains": settings.subdomains = value == "true"
            case "always": settings.always = value.split(separator: ",").map(String.init)
            case "blocked": settings.blocked = value.split(separator: ",").map(String.init)
            case "accept", "block":
                let action: RecipientPattern.Action = key == "accept" ? .accept : .block
                settings.patterns.append(try RecipientPattern(value, action: action))
            case "expected": settings.indexExpected = value == "true"
            case "max_age": settings.maximumIndexAge = nil
            case _ where key.hasPrefix("replies."):
                let kind = try #require(ReplyKind(key: String(key.dropFirst("replies.".count))))
                settings.replies[kind] = try ReplyTemplate(value, for: kind)
            default: try set(&global, key, value)
            }
        }
        settings.observe = global.observe
        for name in [
            "example.com", "example.org", ".below.example", "xn--bcher-kva.example", "alias.example", "second.example",
        ] {
            var rules = global
            for (key, value) in overrides[name] ?? [] { try set(&rules, key, value) }
            settings.addDomain(name, rules)
        }
        return Policy(settings)
    }
}
