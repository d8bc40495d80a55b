import Foundation
import LogTestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// Writes the sample report in every format into the folder that `POSTERN_SAMPLES` names, to be looked at.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["POSTERN_SAMPLES"] != nil)) struct SampleFiles {
    @Test func write() throws {
        let folder = URL(fileURLWithPath: try #require(ProcessInfo.processInfo.environment["POSTERN_SAMPLES"]))
        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        }
        let report = RejectionReport.sample
        try write("report.txt", report.text(.init(isColored: true), timeZone: .gmt))
        try write("plain.txt", report.text(.init(isUnicode: false), timeZone: .gmt))
        try write("narrow.txt", RejectionReport.tabled.text(.init(width: 40), timeZone: .gmt))
        try write("hours.txt", RejectionReport.hourly.text(timeZone: .gmt))
        try write("report.csv", report.csv())
        try write("report.json", report.json())
        try write("report.html", report.html(host: "mx1.example.com", timeZone: .gmt))
        let mail = try ReportMail(
            from: "postern@mx1.example.com", to: ["postmaster@example.com"], host: "mx1.example.com")
        try write("report.eml", mail.message(report, timeZone: .gmt))
        try write("hours.html", RejectionReport.hourly.html(host: "mx1.example.com", timeZone: .gmt))
    }
}
