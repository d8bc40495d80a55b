import Testing

@testable import postern

struct MessageTextTests {
    @Test(arguments: [
        ("one", "one"), ("two malformed lines:\n/a:1: x\n/a:3: y", "two malformed lines: /a:1: x; /a:3: y"),
        ("a\tb\nc", "a\\tb; c"),
    ])
    func severalLinesStandOnOne(text: String, line: String) {
        #expect(text.onOneLine == line)
    }

    @Test(arguments: [
        (0.0, "0 seconds ago"), (1, "1 second ago"), (180, "3 minutes ago"), (-0.5, "0 seconds ago"),
        (-2_591_999, "29 days in the future"), (-1, "1 second in the future"), (.infinity, "0 seconds ago"),
    ])
    func ages(seconds: Double, text: String) {
        #expect(Words.age(seconds) == text)
    }

    @Test func countsOfOne() {
        #expect(Words.count(1, "recipient") == "1 recipient")
        #expect(Words.count(2, "recipient") == "2 recipients")
        #expect(Words.count(2, "alias", plural: "aliases") == "2 aliases")
    }

    @Test(arguments: [
        ("", ""), ("plain ~ text, \\ and all", "plain ~ text, \\ and all"), ("M\u{FC}ller", "M\u{FC}ller"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{1F}", "\\u{1f}"), ("\u{7F}", "\\u{7f}"), ("a\u{85}", "a\\u{85}"),
        ("\u{202E}moc", "\\u{202e}moc"),
    ])
    func controlsAreSpelledOut(text: String, escaped: String) {
        #expect(text.escapedForMessage == escaped)
    }
}
