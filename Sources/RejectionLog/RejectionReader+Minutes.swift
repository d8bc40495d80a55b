public import Foundation
import GRDB

extension RejectionReader {
    /// The verdicts of a span of time; what the MTA refused itself isn't among them.
    public struct Verdicts: Sendable, Codable, Equatable {
        /// Recipients that were accepted.
        public var accepted = 0
        /// Recipients that were refused.
        public var refused = 0
        /// Recipients that were put off.
        public var tempfailed = 0
        /// Recipients that would have been refused or put off, and were let pass in observe mode.
        public var observed = 0

        /// None.
        public init() {}

        fileprivate mutating func add(_ outcome: Outcome, _ observed: Bool, _ count: Int) {
            switch outcome {
            case .accepted: accepted &+= count
            case _ where observed: self.observed &+= count
            case .rejected: refused &+= count
            case .deferred: tempfailed &+= count
            }
        }
    }

    /// The verdicts since a time, by whole minutes.
    public func verdicts(since: Date, until: Date = Date()) throws(LogError) -> Verdicts {
        let (from, to) = Self.minutes(since, until)
        return try read { db in
            var sum = Verdicts()
            for span in TimeUnit.spans(from: from, to: to) {
                try Self.forEachCount(db, span) { _, outcome, observed, count in sum.add(outcome, observed, count) }
            }
            return sum
        }
    }

    /// The verdicts of each of the last minutes, the oldest first; the last is that of `now`, which isn't over.
    public func verdictsByMinute(_ minutes: Int, now: Date = Date()) throws(LogError) -> [Verdicts] {
        let (_, end) = Self.minutes(now, now)
        let start = end &- Int64(minutes)
        return try read { db in
            var list = [Verdicts](repeating: Verdicts(), count: minutes)
            try Self.forEachCount(db, TimeUnit.Span(unit: .minute, from: start, to: end)) {
                minute, outcome, observed, count in
                guard let place = Int(exactly: minute - start), list.indices.contains(place) else { return }
                list[place].add(outcome, observed, count)
            }
            return list
        }
    }

    /// The first minute and the one after the last.
    private static func minutes(_ since: Date, _ until: Date) -> (Int64, Int64) {
        (
            CounterKey.minute(ofMilliseconds: Timestamp.milliseconds(since1970: since)),
            CounterKey.minute(ofMilliseconds: Timestamp.milliseconds(since1970: until)) + 1
        )
    }

    private static func forEachCount(
        _ db: Database, _ span: TimeUnit.Span, _ body: (Int64, Outcome, Bool, Int) -> Void
    ) throws {
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT c.start, c.outcome, c.observed, sum(c.count)
                FROM counter c JOIN reason r ON r.id = c.reason
                WHERE c.unit = ? AND c.start >= ? AND c.start < ? AND r.name <> ?
                GROUP BY c.start, c.outcome, c.observed
                """, arguments: [span.unit.rawValue, span.from, span.to, RejectionLog.mtaReason])
        while let row = try rows.next() {
            body(
                try row.value(0), Outcome(rawValue: try row.value(1)) ?? .rejected, try row.value(2), try row.count(3))
        }
    }
}
