package import Foundation

/// The units of the counters (UTC); the raw value is that of the database.
enum TimeUnit: Int64, CaseIterable {
    case minute = 0
    case hour = 1
    case day = 2

    var minutes: Int64 {
        switch self {
        case .minute: 1
        case .hour: 60
        case .day: 1440
        }
    }

    /// The first minute (since 1970) of the unit that a minute is in.
    func start(of minute: Int64) -> Int64 {
        minute - minute % minutes
    }

    /// The minutes `from ..< to`, in rows of one unit.
    struct Span: Equatable {
        var unit: TimeUnit
        var from: Int64
        var to: Int64
    }

    /// The rows of the minutes `from ..< to`: the largest whole units inside, and smaller units at both ends.
    static func spans(from: Int64, to: Int64, largest unit: TimeUnit = .day) -> [Span] {
        let from = max(from, 0)
        guard from < to else { return [] }
        guard let smaller = TimeUnit(rawValue: unit.rawValue - 1) else { return [Span(unit: unit, from: from, to: to)] }
        let first = unit.start(of: from + unit.minutes - 1)
        let last = unit.start(of: to)
        guard first < last else { return spans(from: from, to: to, largest: smaller) }
        return spans(from: from, to: first, largest: smaller) + [Span(unit: unit, from: first, to: last)]
            + spans(from: last, to: to, largest: smaller)
    }
}

/// Times as the database holds them, in milliseconds since 1970.
package enum Timestamp {
    /// Milliseconds since 1970, clamped to the times that the log can hold.
    package static func milliseconds(since1970 date: Date) -> Int64 {
        let value = (date.timeIntervalSince1970 * 1000).rounded(.down)
        return Int64(min(max(value, 0), Double(CounterKey.maximumMinute) * 60_000))
    }

    /// The date of a stored time, clamped to the times that the log can hold.
    package static func date(milliseconds: Int64) -> Date {
        Date(timeIntervalSince1970: Double(min(max(milliseconds, 0), CounterKey.maximumMinute * 60_000)) / 1000)
    }
}
