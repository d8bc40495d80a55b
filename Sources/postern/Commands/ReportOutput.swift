import ArgumentParser
import Foundation
import RejectionLog

/// The formats of `postern report`.
enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json, csv, html
}

/// In what form a report goes out, and where to.
struct ReportOutput: ParsableArguments {
    @Option(help: "text, json, csv or html; all hold the same figures.")
    var format: ReportFormat?

    /// Writes the report to standard output.
    func write(_ report: RejectionReport) throws {
        switch format ?? .text {
        case .text: try Results.write(report.text(Terminal.reportStyle), terminator: "")
        case .json: try Results.write(try report.json(), terminator: "")
        case .csv: try Results.write(report.csv(), terminator: "")
        case .html: try Results.write(try report.html(host: Host.name), terminator: "")
        }
    }
}

/// This machine.
enum Host {
    /// Its name as it knows it; `localhost` where it has none.
    static var name: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.isEmpty ? "localhost" : text
    }
}
