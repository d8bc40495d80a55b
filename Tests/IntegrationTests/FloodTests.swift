import Foundation
import System
import TestSupport
import Testing

extension FilterAlone {
    /// A flood of rejections, and a filter that is killed during it.
    @Suite struct FloodTests {
        private static let connections = 6
        private static let each = 10_000
        private static let batch = 200

        /// Asks for unknown recipients from clients of networks of their own; returns how many were refused.
        private func flood(_ filter: LoneFilter, each: Int) throws -> Int {
            let connections = try (0..<Self.connections).map { try filter.connection(from: "192.0.\($0).7") }
            var refused = 0
            for start in stride(from: 0, to: each, by: Self.batch) {
                for (number, connection) in connections.enumerated() {
                    var bytes: [UInt8] = []
                    for index in start..<(start + Self.batch) {
                        // Half of them are always the same ones.
                        let name = index % 2 == 0 ? "nobody\(index % 100)" : "guess\(number)x\(index)"
                        bytes += MTAConnection.packet("R", MTAConnection.strings(["<\(name)@example.com>"]))
                    }
                    guard connection.write(bytes) else { throw TestFailure("the filter hung up") }
                }
                for connection in connections {
                    for _ in 0..<Self.batch {
                        guard let answer = connection.receive() else { throw TestFailure("no answer") }
                        #expect(answer.command == "y")
                        if answer.text.hasPrefix("550") { refused += 1 }
                    }
                }
            }
            return refused
        }

        private func document(_ filter: LoneFilter, _ arguments: [String] = []) throws -> [String: Any] {
            let result = try filter.configuration.run(["report", "--format", "json"] + arguments)
            guard result.ending == .exited(0) else { throw TestFailure("postern report: \(result.error)") }
            let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
            return try #require(object as? [String: Any])
        }

        private func sum(_ rows: Any?, _ keys: String...) -> Int {
            (rows as? [[String: Any]] ?? []).reduce(0) { sum, row in
                keys.reduce(sum) { $0 + (row[$1] as? Int ?? 0) }
            }
        }

        /// Every figure of a report that counts all rejections is the same.
        private func expectEverywhere(_ filter: LoneFilter, _ count: Int) throws {
            for key in ["recipient", "domain", "network", "hour"] {
                let report = try document(filter, ["--by", key, "--top", "10"])
                let totals = try #require(report["totals"] as? [String: Int])
                #expect(totals["refused"] == count)
                #expect(report["by_reason"] as? [String: Int] == ["unknown": count])
                let trend = try #require(report["trend"] as? [String: Any])
                #expect(sum(trend["steps"], "refused") == count)
                let table = try #require(report["table"] as? [String: Any])
                #expect(sum(table["rows"], "count") + (table["others"] as? Int ?? 0) == count, "by \(key)")
                let top = try #require(report["top"] as? [String: Any])
                let thinned = totals["thinned"] ?? 0
                #expect(sum(top["domains"], "count") == count)
                #expect(sum(top["clients"], "count") == count - thinned)
                #expect(sum(top["networks"], "count") == count - thinned)
                #expect((top["clients"] as? [Any])?.count == Self.connections)
            }
        }

        @Test func everyRejectionIsCountedAlsoAfterKill() throws {
            let filter = try LoneFilter()
            let refused = try flood(filter, each: Self.each)
            #expect(refused == Self.connections * Self.each)
            // What was recorded a second ago is in the database.
            Thread.sleep(forTimeInterval: 1.5)
            filter.postern.signal(SIGKILL)
            _ = filter.postern.ending()
            try expectEverywhere(filter, refused)
            try filter.restart()
            let more = try flood(filter, each: Self.batch)
            Thread.sleep(forTimeInterval: 1.5)
            try expectEverywhere(filter, refused + more)
            #expect(filter.postern.stop() == .exited(0))
            try expectEverywhere(filter, refused + more)
        }

        @Test func logIsConsistentAfterEachKill() throws {
            let filter = try LoneFilter()
            NamedThread.start("killer") { [postern = filter.postern.pid] in
                Thread.sleep(forTimeInterval: 0.7)
                kill(postern, SIGKILL)
            }
            _ = try? flood(filter, each: 100_000)
            _ = filter.postern.ending()
            let counted = try #require(try document(filter)["totals"] as? [String: Int])["refused"] ?? 0
            if counted > 0 { try expectEverywhere(filter, counted) }
            try filter.restart()
            let more = try flood(filter, each: Self.batch)
            Thread.sleep(forTimeInterval: 1.5)
            try expectEverywhere(filter, counted + more)
        }

        @Test func theReportHasTheDocumentedForm() throws {
            let filter = try LoneFilter()
            _ = try flood(filter, each: Self.batch)
            #expect(try filter.answer("annna@example.com", from: "198.51.100.9") == "550")
            Thread.sleep(forTimeInterval: 1.5)
            let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
            let schema = try JSONSerialization.jsonObject(
                with: Data(contentsOf: root.appendingPathComponent("contrib/report.schema.json")))
            for arguments in [
                [], ["--by", "network"], ["--reason", "unknown", "--redact"], ["--client", "192.0.1.0/24"],
            ] {
                let report = try document(filter, arguments)
                #expect(JSONForm.faults(report, schema, "report").isEmpty)
                // As many findings as one small filter can show.
                #expect(report["sync"] != nil)
                #expect(report["schema"] as? Int == 1)
            }
            let report = try document(filter)
            #expect((report["near_misses"] as? [[String: Any]])?.first?["resembles"] as? String == "anna@example.com")
            #expect((report["harvests"] as? [Any])?.count == Self.connections)
            #expect(JSONForm.faults(["schema": 2], schema, "report").count > 5)
        }
    }
}

/// As much of JSON Schema as `contrib/report.schema.json` uses; also says what a report has that the schema doesn't name.
private enum JSONForm {
    static func faults(_ value: Any, _ schema: Any, _ place: String) -> [String] {
        guard let schema = schema as? [String: Any] else { return ["\(place): no schema"] }
        if let allowed = schema["enum"] as? [String], !allowed.contains(value as? String ?? "") {
            return ["\(place): \(value) is none of \(allowed)"]
        }
        if let constant = schema["const"] as? Int, value as? Int != constant { return ["\(place): is not \(constant)"] }
        switch schema["type"] as? String {
        case "object":
            guard let object = value as? [String: Any] else { return ["\(place): no object"] }
            let properties = schema["properties"] as? [String: Any] ?? [:]
            var faults = (schema["required"] as? [String] ?? []).filter { object[$0] == nil }.map {
                "\(place).\($0): missing"
            }
            for (key, value) in object {
                if let form = properties[key] ?? (schema["additionalProperties"] as? [String: Any]) {
                    faults += Self.faults(value, form, "\(place).\(key)")
                } else {
                    faults.append("\(place).\(key): not in the schema")
                }
            }
            return faults
        case "array":
            guard let array = value as? [Any] else { return ["\(place): no array"] }
            return array.flatMap { faults($0, schema["items"] as Any, "\(place)[]") }
        case "integer":
            guard let number = value as? Int, number >= schema["minimum"] as? Int ?? .min else {
                return ["\(place): \(value) is no such integer"]
            }
            return []
        case "number": return value is Double ? [] : ["\(place): no number"]
        case "boolean": return value is Bool ? [] : ["\(place): no boolean"]
        case "string":
            guard let text = value as? String else { return ["\(place): no string"] }
            let isTime = schema["format"] as? String == "date-time"
            return isTime && (try? Date(text, strategy: .iso8601)) == nil ? ["\(place): no time"] : []
        default: return []
        }
    }
}
