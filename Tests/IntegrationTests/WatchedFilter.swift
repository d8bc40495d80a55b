import Foundation
import TestSupport
import Testing

/// Whether Prometheus' promtool and Chromium are installed.
enum MonitoringRequirements {
    static let promtool = "/usr/bin/promtool"
    static let chromium = "/usr/bin/chromium"

    /// Whether tests fail without these programs, instead of being skipped.
    private static let areRequired =
        ProcessInfo.processInfo.environment["POSTERN_TEST_MONITORING"] == "required"

    static let havePromtool = areRequired || FileManager.default.isExecutableFile(atPath: promtool)
    static let haveChromium = areRequired || FileManager.default.isExecutableFile(atPath: chromium)
}

/// A filter with an HTTP port.
final class WatchedFilter {
    let filter: LoneFilter
    let port: UInt16

    init(_ adjust: (inout PosternConfiguration) throws -> Void = { _ in }) throws {
        let port = try Ports.unused()
        self.port = port
        filter = try LoneFilter {
            $0.values["http.listen"] = "\"127.0.0.1:\(port)\""
            try adjust(&$0)
        }
    }

    var url: String { "http://127.0.0.1:\(port)" }

    /// A response; the names of its headers are in lower case.
    struct Answer {
        let status: Int
        let headers: [String: String]
        let body: String
    }

    /// Sends a GET request by curl.
    func get(_ path: String, _ arguments: [String] = []) throws -> Answer {
        let result = try filter.workspace.run(
            "/usr/bin/curl", ["-s", "-i", "--max-time", "20"] + arguments + ["\(url)\(path)"])
        let parts = result.output.components(separatedBy: "\r\n\r\n")
        let lines = parts[0].components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        let headers = lines.dropFirst().compactMap { line -> (String, String)? in
            let pair = line.split(separator: ":", maxSplits: 1)
            return pair.count == 2 ? (pair[0].lowercased(), pair[1].trimmingCharacters(in: .whitespaces)) : nil
        }
        return Answer(
            status: words.count > 1 ? Int(words[1]) ?? 0 : 0, headers: Dictionary(headers) { first, _ in first },
            body: parts.dropFirst().joined(separator: "\r\n\r\n"))
    }

    /// The value of the sample with this name and labels.
    func metric(_ name: String) throws -> Double? {
        try get("/metrics").body.split(separator: "\n").first { $0.hasPrefix("\(name) ") }
            .flatMap { $0.split(separator: " ").last.flatMap { Double($0) } }
    }
}
