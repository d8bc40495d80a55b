import Testing

@testable import postern

@Suite struct TOMLNodeTests {
    private func fault(_ text: String) -> String? { fault(Array(text.utf8)) }

    private func fault(_ text: [UInt8]) -> String? {
        do {
            _ = try TOMLNode(parsing: text)
            return nil
        } catch {
            // The column depends on the version of toml++.
            if error.line != nil { #expect((error.column ?? 0) > 0) }
            return "\(error.line ?? 0): \(error.message)"
        }
    }

    @Test(arguments: [
        ("a = 1\n\na = 2\n", "3: Error while parsing key-value pair: cannot redefine"),
        ("[a]\n[a]\n", "2: Error while parsing table header: cannot redefine"),
        ("a = 99999999999999999999\n", "1: Error while parsing decimal integer"),
        ("a = 1e999\n", "1: Error while parsing floating-point"),
        ("a = \"x\n", "1: Error while parsing string"), ("a = { b = 1\n", "1: Error while parsing inline table"),
        ("a = 1979-13-01\n", "1: Error while parsing date"), ("[[[a]]]\n", "1: Error while parsing key"),
        ("[a", "1: Error while parsing table header"), ("a = \"\\uD800\"\n", "1: Error while parsing"),
        ("a = \"b\u{1}c\"\n", "1: Error while parsing string"),
        (String(repeating: "a.", count: 200) + "a = 1", "tables are nested more than 100 deep"),
        ("a = " + String(repeating: "[", count: 300), "exceeded maximum nested value depth"),
    ])
    func syntaxFaultsNameTheirLine(text: String, expected: String) {
        #expect(fault(text)?.contains(expected) == true, "\(fault(text) ?? "none")")
    }

    @Test func invalidUTF8IsReportedWithItsLine() {
        #expect(fault(Array("a = 1\nb = \"".utf8) + [0xFF, 0x22, 0x0A])?.hasPrefix("2:") == true)
    }

    /// A byte order mark, CRLF, and every kind of value.
    @Test func everyKindOfValueIsRead() throws {
        let text =
            "\u{FEFF}[a]\r\nt = \"x\\u0000\"\r\nn = [0x1F, 1.5,\r\n  true, 1979-05-27T07:32:00Z]\r\n[[b]]\r\nc = { "
            + "d.e = 1 }\r\n"
        let node = try TOMLNode(parsing: Array(text.utf8))
        #expect(
            "\(node.value)".contains(#"a = { n = [31, 1.5, true, 1979-05-27T07:32:00Z], t = "x\u{0}" }"#),
            "\(node.value)")
        #expect("\(node.value)".contains("b = [{ c = { d = { e = 1 } } }]"), "\(node.value)")
        let lines = ConfigurationLines(node, text: text)
        #expect(
            ["a", "a.t", "a.n", "a.n[0]", "a.n[2]", "b[0]", "b[0].c", "b[0].c.d.e"].map(lines.exactLine) == [
                1, 2, 3, 3, 4, 5, 6, 6,
            ])
        #expect(lines.text(6) == "c = { d.e = 1 }")
        #expect(lines.line(of: "a.n[9]") == 3 && lines.exactLine(of: "a.x") == nil)
    }

    @Test func domainTablesAreFoundByName() throws {
        let text = "[[domain]]\nname = 'BÜCHER.example'\n[[domain]]\nname = \".example.com\" # one\n"
        let lines = ConfigurationLines(try TOMLNode(parsing: Array(text.utf8)), text: text)
        #expect(lines.domainTables(named: "xn--bcher-kva.example") == ["domain[0]"])
        #expect(lines.domainTables(named: ".example.com") == ["domain[1]"])
        #expect(lines.domainTables(named: "example.com") == [] && lines.domainTables(named: nil) == [])
    }
}
