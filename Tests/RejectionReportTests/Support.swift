import LogTestSupport

@testable import RejectionLog
@testable import RejectionReport

/// The report on everything in a log.
func wholeReport(_ path: String) throws -> RejectionReport {
    try RejectionReader(path: path).report(ReportQuery(LogSelection(since: allTime.since, until: allTime.until)))
}
