import Testing

@testable import postern

struct MessageTextTests {
    @Test(arguments: [
        ("", ""), ("plain ~ text, \\ and all", "plain ~ text, \\ and all"), ("M\u{FC}ller", "M\u{FC}ller"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{1F}", "\\u{1f}"), ("\u{7F}", "\\u{7f}"), ("a\u{85}", "a\\u{85}"),
        ("\u{202E}moc", "\\u{202e}moc"),
    ])
    func controlsAreSpelledOut(text: String, escaped: String) {
        #expect(text.escapedForMessage == escaped)
    }
}
