import TestSupport

/// Recipients as honest clients, careless ones and attackers write them: known and unknown people of relayed, foreign
/// and sub-domains, in every form that RFC 5321 and Postfix's own history give an address.
struct RecipientGenerator {
    static let relayDomains = ["example.com", "example.org", "mail.example.net"]
    /// Its recipients are all accepted.
    static let catchAllDomain = "example.org"
    static let people = [
        "anna", "bob", "carl.otto", "d-e_f", "eve99", "o'neil", "first.last", "x", "info", "team+fixed", "a=b", "sales",
        "newsletter-request-of-the-whole-organisation-and-its-subsidiaries-abroad-2026",
        "list-confirm+5f2c7d1e9b8a4f3c6d0e1b2a3f4c5d6e7f8091a2-anna=example.net",
    ]
    private static let strangers = [
        "nobody", "ann", "annaa", "bobb", "carlotto", "root", "admin", "zz9", "first", "last",
    ]
    private static let foreign = ["foreign.test", "example.net", "com", "example.com.foreign.test", "notexample.com"]
    private static let below = ["sub.example.com", "a.b.example.com", "x.mail.example.net", "deep.example.org"]

    private var random: SeededGenerator

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    /// The recipients that are listed, the catch-all as `@domain`.
    static var listed: [String] {
        people.flatMap { person in relayDomains.filter { $0 != catchAllDomain }.map { "\(person)@\($0)" } }
            + ["@\(catchAllDomain)"]
    }

    /// A path as it stands between the brackets of `RCPT TO:<>`.
    mutating func next() -> String {
        var address = address()
        // Without a domain, such local parts are for the MTA alone to make sense of: it puts its own name behind them.
        while Self.isLocalList(address) { address = self.address() }
        return address
    }

    private static func isLocalList(_ address: String) -> Bool {
        let route = address.hasPrefix("@") ? address.prefix { $0 != ":" }.count + 1 : 0
        let rest = address.dropFirst(route)
        return !rest.contains("@") && rest.contains { ",;".contains($0) }
    }

    private mutating func address() -> String {
        let local = form(of: chance(55) ? pick(Self.people) : pick(Self.strangers))
        let address = "\(local)\(domainPart())"
        // A source route, and with it whatever is still known of it.
        switch roll(40) {
        case 0: return "@\(pick(Self.foreign)):\(address)"
        case 1: return "@a.test,@\(pick(Self.relayDomains)):\(address)"
        default: return address
        }
    }

    private mutating func domainPart() -> String {
        let domain: String
        switch roll(20) {
        case 0..<11: domain = pick(Self.relayDomains)
        case 11..<14: domain = pick(Self.foreign)
        case 14..<17: domain = pick(Self.below)
        case 17: return ""
        case 18:
            domain = pick([
                "[192.0.2.1]", "[IPv6:2001:db8::1]", "127.0.0.1", "example", "gateway.example.test",
            ])
        default:
            domain = pick([
                "example..com", ".example.com", "-example.com", "exam_ple.com", "example.com..", "ex*mple.com",
                "[broken",
            ])
        }
        var written = chance(25) ? mixedCase(domain) : domain
        if roll(25) == 0 { written += "." }
        return "@\(written)"
    }

    private mutating func form(of person: String) -> String {
        var local = chance(30) ? mixedCase(person) : person
        switch roll(24) {
        case 0, 1, 2: local += "+\(pick(["lists", "a+b", "", "2024", "Sales"]))"
        case 3: local = "\"\(local)\""
        case 4: local = "\"\(local.replacing(".", with: "\\."))\""
        case 5: local = "\"\(local.first.map { "\\\($0)" } ?? "")\(local.dropFirst())\""
        case 6: local += "%\(pick(Self.foreign + Self.relayDomains))"
        case 7: local = "\(pick(Self.foreign + Self.relayDomains))!\(local)"
        case 8: local = "\"\(local)@\(pick(Self.foreign + Self.relayDomains))\""
        case 9: local += "@\(pick(Self.foreign + Self.relayDomains))"
        case 10: local = "\"\(local)%\(pick(Self.relayDomains))\""
        case 11: local = "\"\(pick(Self.foreign))!\(local)\""
        case 12: local = pick([".\(local)", "\(local).", local.replacing(".", with: ".."), "\(local)..x"])
        case 13: local = pick(["\"\(local) x\"", "\"\(local),x\"", "\"\(local)+tag\"", "\"\"", "\"+\"", "\"a\\\"b\""])
        case 14: local = pick(["+\(local)", "-\(local)", "\(local)-tag", "owner-\(local)", "\(local)-request", "+"])
        case 15:
            local = pick([
                "\(local) ", "\(local)(x)", "(x)\(local)", "\(local):x", "\(local);", "\(local),", "\(local)\\x",
            ])
        case 16: local = pick(["mailer-daemon", "double-bounce", "MAILER-DAEMON+x", "double-bounce+x", "postmaster+x"])
        case 17:
            local = pick([
                String(repeating: "a", count: 64), String(repeating: "b", count: 61) + "+xy", "|x", "/etc/x", "~x",
                "{x}", "#x",
            ])
        case 18, 19: local = long(local)
        default: break
        }
        return local
    }

    /// A local part as list software, forwarders and Exchange make them, mostly of more than 64 bytes.
    private mutating func long(_ local: String) -> String {
        let hash = String((0..<40).map { _ in pick(Array("0123456789abcdef")) })
        let other = pick(Self.foreign)
        return switch roll(9) {
        case 0: "\(local)-confirm+\(hash)"
        case 1: "\(local)+confirm-\(hash)-\(pick(Self.strangers))=\(other)"
        case 2: "SRS0=\(hash.prefix(4))=\(pick(["TT", "A7"]))=\(other)=\(local)"
        case 3: "SRS1=\(hash.prefix(4))=\(other)==\(hash.prefix(4))=TT=\(pick(Self.relayDomains))=\(local)"
        case 4: "\(local)-bounces+\(hash)=\(pick(Self.strangers))=\(other)"
        case 5: "prvs=\(hash.prefix(10))=\(local)"
        case 6:
            "IMCEAEX-_o=First+20Organization_ou=Exchange+20Administrative+20Group+20+28FYDIBOHF23SPDLT+29"
                + "_cn=Recipients_cn=\(hash)\(local)"
        case 7: "\(local)+\(String(repeating: pick(["x", "y-", "a."]), count: roll(200)))z"
        default: "\"\(local)+\(String(repeating: "q", count: 60 + roll(380)))\""
        }
    }

    private mutating func mixedCase(_ text: String) -> String {
        String(text.map { roll(2) == 0 ? Character($0.uppercased()) : $0 })
    }

    private mutating func pick<T>(_ choices: [T]) -> T { choices[roll(choices.count)] }
    private mutating func roll(_ sides: Int) -> Int { Int.random(in: 0..<sides, using: &random) }
    private mutating func chance(_ percent: Int) -> Bool { roll(100) < percent }
}
