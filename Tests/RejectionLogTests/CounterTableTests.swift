import TestSupport
import Testing

@testable import RejectionLog

@Suite struct CounterTableTests {
    @Test func `a counter key gives back its minute, slots, outcome and mode`() {
        var random = SeededGenerator.announced("CounterKey")
        for _ in 0..<10_000 {
            let minute = Int64.random(in: 0...CounterKey.maximumMinute, using: &random)
            let slot = UInt32.random(in: 0...CounterKey.maximumSlot, using: &random)
            let reason = UInt8.random(in: 0...255, using: &random)
            let outcome = Outcome.allCases.randomElement(using: &random) ?? .rejected
            let observed = Bool.random(using: &random)
            let key = CounterKey(minute: minute, slot: slot, reason: reason, outcome: outcome, observed: observed)
            #expect(key.minute == minute && key.slot == slot && key.reason == reason)
            #expect(key.outcome == outcome && key.observed == observed)
        }
        for absurd in [Int64.min, -1, Int64.max] {
            let minute = CounterKey.minute(ofMilliseconds: absurd)
            #expect(minute == (absurd < 0 ? 0 : CounterKey.maximumMinute))
        }
    }

    @Test func `a counter table counts like a dictionary`() {
        var random = SeededGenerator.announced("CounterTable")
        var table = CounterTable(places: 4)
        defer { table.deallocate() }
        for _ in 0..<5 {
            var expected: [CounterKey: Int64] = [:]
            for _ in 0..<Int.random(in: 0...3_000, using: &random) {
                let key = CounterKey(
                    minute: Int64.random(in: 0...20, using: &random), slot: UInt32.random(in: 0...20, using: &random),
                    reason: 1, outcome: .rejected, observed: Bool.random(using: &random))
                table.add(key)
                expected[key, default: 0] += 1
            }
            var found: [CounterKey: Int64] = [:]
            table.forEach { found[$0] = $1 }
            #expect(found == expected)
            #expect(table.used == expected.count)
            table.removeAll()
        }
    }

    @Test func `the spans of a period cover each minute once`() {
        var random = SeededGenerator.announced("TimeUnit")
        for _ in 0..<500 {
            let from = Int64.random(in: 0...5_000, using: &random)
            let to = from + Int64.random(in: -10...6_000, using: &random)
            var minutes: [Int64] = []
            for span in TimeUnit.spans(from: from, to: to) {
                #expect(span.unit.start(of: span.from) == span.from && span.unit.start(of: span.to) == span.to)
                minutes += span.from..<span.to
            }
            #expect(minutes == (from < to ? Array(from..<to) : []))
            #expect(TimeUnit.spans(from: from, to: to).count <= 5)
        }
    }
}
