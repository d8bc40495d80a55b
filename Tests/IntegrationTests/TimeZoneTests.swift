import Foundation
import Testing

extension Integration {
    /// Postern reads `TZ` as date(1) does.
    @Suite struct TimeZoneTests {
        @Test(
            "postern shows the same times as date(1)",
            arguments: [
                "", "UTC", "Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin",
                ":/usr/share/zoneinfo/Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "EST5EDT",
                "<+0545>-5:45", "XYZ-3", "NZST-12NZDT,M9.5.0,M4.1.0/3", ":/etc/localtime", "Asia/Kolkata",
            ])
        func offsets(zone: String) throws {
            let (output, error, date) = try times(zone)
            #expect(error == "")
            #expect(output.contains(date), "\(output), date(1) says \(date)")
        }

        @Test(
            "an invalid TZ is reported, and means UTC",
            arguments: ["Nonsense/Zone", ":Foo", "/no/such/file", "Europe"])
        func noZone(zone: String) throws {
            let (output, error, date) = try times(zone)
            #expect(error.contains("TZ=\"\(zone)\" is not a time zone") && error.contains("accepted: "), "\(error)")
            #expect(output.contains(date) && date == "+0000")
        }

        /// What `postern index info` says of the snapshot's date, its messages, and date(1)'s offset.
        private func times(_ zone: String) throws -> (output: String, error: String, date: String) {
            let workspace = try Workspace()
            let configuration = try PosternConfiguration(in: workspace)
            try configuration.write()
            #expect(try configuration.run(["sync", "--once"]).ending == .exited(0))
            let info = try workspace.run(
                PosternProcess.executable, ["index", "info", "--config", workspace.file("postern.toml")],
                environment: ["TZ": zone])
            let created = info.output.split(separator: "\n").first { $0.hasPrefix("created") } ?? ""
            let date = try workspace.run("/usr/bin/date", ["+%z"], environment: ["TZ": zone])
            return (String(created), info.error, date.output.trimmingCharacters(in: .whitespacesAndNewlines))
        }
    }
}
