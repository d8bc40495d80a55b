public import Foundation
import GRDB

extension RejectionReader {
    /// How many recipients had each verdict in a span of time.
    public struct Verdicts: Sendable, Codable, Equatable {
        /// Recipients that were accepted.
        public var accepted = 0
        /// Recipients that were rejected with a 5xx reply.
        public var refused = 0
        /// Recipients that were deferred with a 4xx reply.
        public var tempfailed = 0
        /// Recipients that observe mode accepted, and enforce mode would have rejected or deferred.
        public var observed = 0

        /// No recipients, unless numbers are given.
        public init(accepted: Int = 0, refused: Int = 0, tempfailed: Int = 0, observed: Int = 0) {
            self.accepted = accepted
            self.refused = refused
            self.tempfailed = tempfailed
            self.observed = observed
        }

        mutating func add(_ outcome: Outcome, observed isObserved: Bool, _ count: Int) {
            switch outcome {
            case .accepted: accepted &+= count
            case _ where isObserved: observed &+= count
            case .rejected: refused &+= count
            case .deferred: tempfailed &+= count
            }
        }

        mutating func removeNegatives() {
            refused = max(0, refused)
            tempfailed = max(0, tempfailed)
            observed = max(0, observed)
        }
    }

    /// The verdicts since a time, by whole minutes, without the recipients that the MTA refused itself.
    public func verdicts(since: Date, until: Date = Date()) throws(LogError) -> Verdicts {
        let (from, to) = Self.minutes(since, until)
        return try read { db in
            var sum = Verdicts()
            for span in TimeUnit.spans(from: from, to: to) {
                try Self.forEachCount(db, span) { sum.add($1, observed: $2, $3) }
            }
            return sum
        }
    }

    /// The verdicts of each of the last minutes, oldest first, without the recipients that the MTA refused itself. The
    /// last minute is that of `now`, which isn't over.
    public func verdictsByMinute(_ minutes: Int, now: Date = Date()) throws(LogError) -> [Verdicts] {
        let (_, end) = Self.minutes(now, now)
        let start = end &- Int64(minutes)
        return try read { db in
            var list = [Verdicts](repeating: Verdicts(), count: minutes)
            try Self.forEachCount(db, TimeUnit.Span(unit: .minute, from: start, to: end)) {
                minute, outcome, observed, count in
                guard let place = Int(exactly: minute - start), list.indices.contains(place) else { return }
                list[place].add(outcome, observed: observed, count)
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
