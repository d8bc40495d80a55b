import Foundation
import LogTestSupport
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

@Suite struct TimeExpressionTests {
    @Test func fractionsOfASecondAreKept() throws {
        let date = try TimeExpression.parse("2026-11-30T13:58:27.696Z")
        #expect(abs(date.timeIntervalSince1970 - 1_796_047_107.696) < 0.0005)
    }

    @Test func timesEqualTheTableOfCases() throws {
        let zones = ["berlin": try #require(TimeZone(identifier: "Europe/Berlin")), "utc": .gmt]
        let now = try Date("2026-11-24T10:30:00Z", strategy: .iso8601)
        for line in try caseFields("time.cases") {
            let zone = try #require(zones[line[0]])
            if line[2] == "error" {
                let error = #expect(throws: TimeExpression.ParseError.self, "\(line)") {
                    try TimeExpression.parse(line[1], now: now, timeZone: zone)
                }
                #expect(error?.description.contains("accepted are") == true)
            } else {
                let date = try TimeExpression.parse(line[1], now: now, timeZone: zone)
                #expect(TimeText.seconds(date) == line[2], "\(line)")
            }
        }
    }
}
