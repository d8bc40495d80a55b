import Foundation
import Testing

@testable import System

struct WordsTests {
    @Test(
        arguments: [
            (0, "0 seconds ago"), (-1, "1 second ago"), (-59.9, "59 seconds ago"), (-300, "5 minutes ago"),
            (299, "0 seconds ago"), (301, "dated 5 minutes in the future"), (3 * 86_400, "dated 3 days in the future"),
            (-1e300, "\(Int.max / 86_400) days ago"),
        ] as [(TimeInterval, String)])
    func `the age of a date is in words`(offset: TimeInterval, words: String) {
        let now = Date(timeIntervalSince1970: 1_796_000_000)
        #expect(Words.age(of: now + offset, now: now) == words)
    }

    @Test func `a day is given as its date`() {
        #expect(Words.day(0) == "1970-01-01" && Words.day(20_787) == "2026-11-30")
    }

    @Test(arguments: [
        ("one", "one"), ("two malformed lines:\n/a:1: x\n/a:3: y", "two malformed lines: /a:1: x; /a:3: y"),
        ("a\tb\nc", "a\\tb; c"),
    ])
    func `several lines become one`(text: String, line: String) {
        #expect(text.onOneLine == line)
    }

    @Test(arguments: [
        (0.0, "0 seconds ago"), (1, "1 second ago"), (180, "3 minutes ago"), (-0.5, "0 seconds ago"),
        (-2_591_999, "29 days in the future"), (-1, "1 second in the future"), (.infinity, "0 seconds ago"),
    ])
    func `an age in seconds is in words`(seconds: Double, text: String) {
        #expect(Words.age(seconds) == text)
    }

    @Test func `a count has the noun in singular or plural`() {
        #expect(Words.count(1, "recipient") == "1 recipient")
        #expect(Words.count(2, "recipient") == "2 recipients")
        #expect(Words.count(2, "alias", plural: "aliases") == "2 aliases")
    }

    @Test(arguments: [
        ("", ""), ("plain ~ text, \\ and all", "plain ~ text, \\ and all"), ("M\u{FC}ller", "M\u{FC}ller"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{1F}", "\\u{1f}"), ("\u{7F}", "\\u{7f}"), ("a\u{85}", "a\\u{85}"),
        ("\u{202E}moc", "\\u{202e}moc"),
    ])
    func `control characters are escaped in messages`(text: String, escaped: String) {
        #expect(text.escapedForMessage == escaped)
    }
}
