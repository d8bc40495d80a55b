import Testing

@testable import RecipientSources

@Suite struct DomainSetTests {
    @Test(arguments: [
        ("example.com", true, true), ("sub.example.com", false, true), ("a.b.example.com", false, true),
        ("notexample.com", false, false), ("com", false, false), ("", false, false), ("example.com.", false, false),
        (".example.com", false, true), ("dotted.org", false, false), ("x.dotted.org", true, true),
        ("x.y.dotted.org", true, true),
    ]) func contains(_ domain: String, alone: Bool, withSubdomains: Bool) {
        for (subdomains, expected) in [(false, alone), (true, withSubdomains)] {
            let set = DomainSet(["example.com", ".dotted.org"], subdomains: subdomains)
            var domain = domain
            #expect(domain.withUTF8 { set.contains($0) } == expected, "subdomains \(subdomains)")
        }
    }
}
