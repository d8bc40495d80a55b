import Foundation
import RejectionLog

/// A period in steps without gaps, each with its verdicts.
struct ReportTrend: Sendable, Equatable {
    /// The length of a step.
    enum Unit: String, Sendable, CaseIterable {
        /// A minute: periods of up to two hours.
        case minute
        /// An hour: periods of up to three days.
        case hour
        /// A day in the report's time zone, as far as the counters are kept by the hour.
        case day
        /// Seven days.
        case week
    }

    /// One step.
    struct Step: Sendable, Equatable {
        var start: Date
        /// The verdicts of its recipients.
        var verdicts: RejectionReader.Verdicts

        /// Every recipient that was rejected, deferred or observed.
        var refusals: Int { verdicts.refused &+ verdicts.tempfailed &+ verdicts.observed }
    }

    var unit = Unit.hour
    var steps: [Step] = []

    /// The beginning of a step as a label: a time, a day, or both.
    func label(_ step: Step, _ zone: TimeZone) -> String {
        let text = TimeText.local(step.start, zone)
        switch unit {
        case .minute: return String(text.suffix(5))
        case .hour: return text
        case .day, .week:
            return "\(TimeText.weekday(step.start, zone)) \(text.prefix(text.hasSuffix("00:00") ? 10 : 16))"
        }
    }
}

extension ReportTrend {
    /// The period in steps whose length suits that of the period.
    ///
    /// - Parameters:
    ///   - zone: the time zone in which days begin.
    ///   - now: the present time: later steps are left out, unless something was counted then.
    init(_ period: LogPeriod, zone: TimeZone, now: Date) throws {
        let (from, to) = period.selection.minutes
        let unit: Unit =
            switch to - from {
            case ...120: .minute
            case ...(72 * 60): .hour
            case ...(92 * 1440): .day
            default: .week
            }
        try self.init(period, unit: unit, zone: zone, now: now)
    }

    /// The period in steps of a length; the first and the last may be shorter.
    init(_ period: LogPeriod, unit: Unit, zone: TimeZone, now: Date) throws {
        self.unit = unit
        let (from, to) = period.selection.minutes
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = zone
        let first = try period.firstMinute() ?? to
        let minuteOfNow = Timestamp.milliseconds(since1970: now) / 60_000 + 1
        let end = min(to, max(minuteOfNow, try period.endMinute() ?? minuteOfNow))
        // A report on all time begins with the log.
        let begin = from < first ? max(Self.start(ofStepAt: first, unit, calendar), from) : from
        let starts = Self.starts(unit, from: begin, to: end, calendar)
        let verdicts = try period.verdicts(
            inSteps: starts, areWholeDays: Self.isUTC(zone, period.selection) && (unit == .day || unit == .week),
            areWholeHours: unit != .minute)
        steps = zip(starts, verdicts).map {
            Step(start: Date(timeIntervalSince1970: Double($0 * 60)), verdicts: $1)
        }
    }

    private static func isUTC(_ zone: TimeZone, _ selection: LogSelection) -> Bool {
        let (from, to) = selection.minutes
        return [from, to].allSatisfy {
            zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0 * 60))) == 0
        } && zone.nextDaylightSavingTimeTransition(after: selection.since) == nil
    }

    private static func starts(_ unit: Unit, from: Int64, to: Int64, _ calendar: Calendar) -> [Int64] {
        guard from < to else { return [] }
        var starts = [from]
        while let last = starts.last, starts.count < 100_000 {
            let next: Int64
            switch unit {
            case .minute: next = last + 1
            case .hour: next = last - last % 60 + 60
            case .day, .week:
                let midnight = calendar.startOfDay(for: Date(timeIntervalSince1970: Double(last * 60)))
                let later = calendar.date(byAdding: .day, value: unit == .day ? 1 : 7, to: midnight)
                next = later.map { Int64($0.timeIntervalSince1970) / 60 } ?? to
            }
            guard next < to, next > last else { break }
            starts.append(next)
        }
        return starts
    }

    private static func start(ofStepAt minute: Int64, _ unit: Unit, _ calendar: Calendar) -> Int64 {
        switch unit {
        case .minute: minute
        case .hour: minute - minute % 60
        case .day, .week:
            Int64(
                calendar.startOfDay(for: Date(timeIntervalSince1970: Double(minute * 60))).timeIntervalSince1970) / 60
        }
    }
}
