package import RejectionLog
import System

/// The counts and the most frequent values of a period.
package struct LogSummary {
    /// A value and its number of rejections.
    package struct Row: Equatable {
        package var value: String
        package var count: Int
    }

    /// The most frequent values.
    package struct Top: Equatable {
        package var recipients: [Row] = []
        package var domains: [Row] = []
        package var clients: [Row] = []
        package var senders: [Row] = []
    }

    package var totals: RecipientTotals
    package var byReason: [String: Int]
    package var top: Top
    package var gaps: PeriodTallies.Gaps
}

extension RejectionReader {
    /// The summary of a selection.
    package func summary(_ selection: LogSelection, top limit: Int = 10) throws(LogError) -> LogSummary {
        try withPeriod(selection) { period in
            let counts = try period.counts()
            let tallies = try period.tallies(subtractionThreshold: 100_000)
            func rows(_ kind: TallyKind, _ text: (UnsafeRawBufferPointer) -> String) -> [LogSummary.Row] {
                let table = tallies[kind]
                return table.top(limit).map {
                    .init(value: table.withValue($0, text), count: Int(table.tallies[$0].count))
                }
            }
            func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
            return LogSummary(
                totals: counts.totals, byReason: counts.byReason,
                top: .init(
                    recipients: rows(.recipient, text),
                    domains: try period.topDomains(of: counts, limit: limit).map { .init(value: $0, count: $1) },
                    clients: rows(.client) { IPAddress(stored: $0).clientText }, senders: rows(.sender, text)),
                gaps: tallies.gaps)
        }
    }
}

/// The summary of everything in a log.
package func wholeLog(
    _ path: String, top: Int = 10, domain: String? = nil, reason: String? = nil
) throws -> LogSummary {
    try RejectionReader(path: path).summary(
        LogSelection(since: allTime.since, until: allTime.until, domain: domain, reason: reason), top: top)
}
