import Foundation
import Testing

@testable import postern

struct WordsTests {
    @Test(
        arguments: [
            (0, "0 seconds ago"), (-1, "1 second ago"), (-59.9, "59 seconds ago"), (-300, "5 minutes ago"),
            (299, "0 seconds ago"), (301, "dated 5 minutes in the future"), (3 * 86_400, "dated 3 days in the future"),
            (-1e300, "\(Int.max / 86_400) days ago"),
        ] as [(TimeInterval, String)])
    func agesArePlain(offset: TimeInterval, words: String) {
        let now = Date(timeIntervalSince1970: 1_796_000_000)
        #expect(Words.age(of: now + offset, now: now) == words)
    }

    @Test func daysAreOfTheCalendar() {
        #expect(Words.day(0) == "1970-01-01" && Words.day(20_787) == "2026-11-30")
    }
}
