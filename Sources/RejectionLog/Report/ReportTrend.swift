import Foundation

/// A period in steps without gaps.
struct ReportTrend {
    let source: ReportSource
    let query: ReportQuery
    let now: Date

    typealias Unit = RejectionReport.Trend.Unit
    typealias Step = RejectionReport.Trend.Step

    /// Steps of a length that suits the period's.
    func trend() throws -> RejectionReport.Trend {
        let (from, to) = query.minutes
        let unit: Unit =
            switch to - from {
            case ...120: .minute
            case ...(72 * 60): .hour
            case ...(92 * 1440): .day
            default: .week
            }
        return .init(unit: unit, steps: try steps(unit))
    }

    /// Steps of the length; the first and the last may be parts of one.
    func steps(_ unit: Unit) throws -> [Step] {
        let (from, to) = query.minutes
        // Reports on all time begin with the log.
        let begin = try source.begin() ?? to
        let starts = starts(unit, from: from < begin ? floor(begin, unit, notBefore: from) : from, to: end(to))
        var steps = starts.map {
            Step(
                start: Date(timeIntervalSince1970: Double($0 * 60)), refused: 0, tempfailed: 0, observed: 0, accepted: 0
            )
        }
        guard !steps.isEmpty else { return [] }
        let largest: TimeUnit =
            switch unit {
            case .minute: .minute
            case .hour: .hour
            case .day, .week: isUTC ? .day : .hour
            }
        try source.forEachStart(from: from, to: to, largest: largest) { minute, outcome, observed, count in
            let place = Self.place(of: minute, in: starts)
            switch outcome {
            case .accepted: steps[place].accepted &+= count
            case _ where observed: steps[place].observed &+= count
            case .rejected: steps[place].refused &+= count
            case .deferred: steps[place].tempfailed &+= count
            }
        }
        // Where a foreign domain's count was taken from another row.
        for place in steps.indices {
            steps[place].refused = max(0, steps[place].refused)
            steps[place].tempfailed = max(0, steps[place].tempfailed)
            steps[place].observed = max(0, steps[place].observed)
        }
        return steps
    }

    private var isUTC: Bool {
        let (from, to) = query.minutes
        return [from, to].allSatisfy {
            query.timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0 * 60))) == 0
        } && query.timeZone.nextDaylightSavingTimeTransition(after: query.since) == nil
    }

    /// Not after the newest count's minute or now, whichever is later: years to come have no steps.
    private func end(_ to: Int64) -> Int64 {
        let now = Timestamp.milliseconds(since1970: now) / 60_000 + 1
        return min(to, max(now, (try? source.newestMinute()) ?? now))
    }

    private func starts(_ unit: Unit, from: Int64, to: Int64) -> [Int64] {
        guard from < to else { return [] }
        var starts = [from]
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = query.timeZone
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

    private func floor(_ minute: Int64, _ unit: Unit, notBefore from: Int64) -> Int64 {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = query.timeZone
        let start: Int64
        switch unit {
        case .minute: start = minute
        case .hour: start = minute - minute % 60
        case .day, .week:
            let midnight = calendar.startOfDay(for: Date(timeIntervalSince1970: Double(minute * 60)))
            start = Int64(midnight.timeIntervalSince1970) / 60
        }
        return max(start, from)
    }

    /// The last start that isn't after the minute, or the first.
    private static func place(of minute: Int64, in starts: [Int64]) -> Int {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= minute { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }
}
