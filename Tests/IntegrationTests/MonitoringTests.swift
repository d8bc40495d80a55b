import Foundation
import Glibc
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct MonitoringTests {
        // MARK: Metrics

        @Test("metrics count judged recipients by reason and by domain")
        func counts() throws {
            let watched = try WatchedFilter { $0.values["harvest.limit"] = "2" }
            for recipient in ["anna@example.com", "nobody@example.com", "x@example.info", "x@example.biz"] {
                _ = try watched.filter.answer(recipient)
            }
            func verdicts(_ outcome: String, _ reason: String) throws -> Double? {
                try watched.metric(
                    "postern_verdicts_total{outcome=\"\(outcome)\",reason=\"\(reason)\",mode=\"enforce\"}")
            }
            #expect(try eventually(within: 20) { try verdicts("refused", "relay") == 2 })
            #expect(try verdicts("accepted", "listed") == 1)
            #expect(try verdicts("refused", "unknown") == 1)
            func domain(_ name: String) throws -> Double? {
                try watched.metric("postern_domain_verdicts_total{domain=\"\(name)\",outcome=\"refused\"}")
            }
            #expect(try domain("example.com") == 1)
            #expect(try domain("example.net") == 0)
            #expect(try domain("foreign") == 2)
            #expect(try watched.metric("postern_judgement_seconds_count") == 4)
            #expect(try watched.metric("postern_judgement_seconds_bucket{le=\"+Inf\"}") == 4)
            #expect(try watched.metric("postern_sessions_total") == 4)
            #expect(try watched.metric("postern_index_recipients") == 3)
            #expect(try watched.metric("postern_index_in_force") == 1)
            #expect(try watched.metric("postern_sync_source_failing{source=\"people\"}") == 0)
            _ = try watched.filter.answer("nobody2@example.com")
            #expect(try eventually(within: 20) { try watched.metric("postern_harvest_offenders_total") == 1 })
        }

        @Test("metrics, live page and status show a failing source and a refused list")
        func sync() throws {
            let watched = try WatchedFilter {
                $0.values["sync.max_shrink"] = "\"10%\""
                $0.values["sync.interval"] = "\"1s\""
            }
            let name = "postern_sync_refused"
            #expect(try eventually(within: 30) { try watched.metric(name) == 0 })
            try watched.filter.configuration.list(["anna@example.com"])
            #expect(try eventually(within: 30) { try watched.metric(name) == 1 })
            #expect(try watched.metric("postern_syncs_total{outcome=\"refused\"}") ?? 0 >= 1)
            let live = try watched.get("/live.json").body
            #expect(live.contains("--accept-shrink"))
            #expect(try watched.filter.configuration.run(["status"]).ending == .exited(1))
            try watched.filter.configuration.list(PosternConfiguration.listed)
            #expect(try eventually(within: 30) { try watched.metric(name) == 0 })
            unlink(watched.filter.workspace.file("recipients"))
            #expect(
                try eventually(within: 30) { try watched.metric("postern_sync_source_failing{source=\"people\"}") == 1 }
            )
            #expect(try watched.metric("postern_sync_source_failures_total{source=\"people\"}") ?? 0 >= 1)
        }

        @Test(
            "promtool accepts the metrics in each dialect",
            .enabled(if: MonitoringRequirements.havePromtool),
            arguments: ["*/*", "text/plain"])
        func promtool(accept: String) throws {
            let watched = try WatchedFilter()
            _ = try watched.filter.answer("nobody@example.com")
            #expect(try eventually(within: 20) { try watched.get("/metrics").body.contains("postern_verdicts_total") })
            let answer = try watched.get("/metrics", ["-H", "Accept: \(accept)"])
            #expect(answer.body.hasSuffix("\n# EOF\n"))
            let checked = try watched.filter.workspace.run(
                MonitoringRequirements.promtool, ["check", "metrics"], input: answer.body)
            #expect(checked.ending == .exited(0), "\(checked.output)\(checked.error)")
            #expect(checked.output + checked.error == "")
        }

        @Test("the metrics have the content type of OpenMetrics")
        func contentType() throws {
            let watched = try WatchedFilter()
            let type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
            #expect(try watched.get("/metrics").headers["content-type"] == type)
            let answer = try watched.get("/metrics", ["-H", "Accept: application/openmetrics-text;version=1.0.0"])
            #expect(answer.headers["content-type"] == type)
            #expect(answer.body.contains("# TYPE postern_sessions counter\npostern_sessions_total 0\n"))
        }

        @Test(
            "promtool accepts the alerts and the dashboard, and the filter has all their metrics",
            .enabled(if: MonitoringRequirements.havePromtool))
        func alerts() throws {
            let watched = try WatchedFilter { $0.values["log.lines"] = "true" }
            _ = try watched.filter.answer("nobody@example.com")
            #expect(try eventually(within: 20) { try watched.get("/metrics").body.contains("postern_verdicts_total") })
            #expect(
                try eventually(within: 20) {
                    try watched.metric("postern_sync_source_read_seconds_count{source=\"people\"}") ?? 0 > 0
                })
            let metrics = try watched.get("/metrics").body
            let contrib = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("../../contrib").standardizedFileURL
            let rules = contrib.appendingPathComponent("prometheus/postern.rules.yml").path
            let tests = contrib.appendingPathComponent("prometheus/postern.test.yml").path
            for arguments in [["check", "rules", rules], ["test", "rules", tests]] {
                let checked = try watched.filter.workspace.run(MonitoringRequirements.promtool, arguments)
                #expect(checked.ending == .exited(0), "\(checked.output)\(checked.error)")
            }
            let dashboard = try Data(contentsOf: contrib.appendingPathComponent("grafana/postern.json"))
            let panels = try JSONDecoder().decode(Dashboard.self, from: dashboard).panels
            let expressions = panels.flatMap { $0.targets ?? [] }.map(\.expr)
            #expect(expressions.count > 20)
            let texts = try expressions + [String(contentsOfFile: rules, encoding: .utf8)]
            let names = Set(texts.flatMap { $0.matches(of: /(postern|process)_[a-z_]+/).map { String($0.0) } })
            #expect(names.count > 25)
            for name in names where !name.hasSuffix("_rules") {
                #expect(
                    metrics.contains("\n\(name) ") || metrics.contains("\n\(name){") || metrics.hasPrefix("\(name){"),
                    "\(name)")
            }
            // promtool reads the dashboard's expressions only in the form of rules.
            let recorded = expressions.enumerated().map { place, expression in
                let query = expression.replacing("$__rate_interval", with: "5m").replacing("$job", with: "postern")
                    .replacing("$instance", with: ".*").replacing("'", with: "''")
                return "  - {record: 'panel:\(place)', expr: '\(query)'}\n"
            }
            let file = try watched.filter.workspace.write(
                "groups:\n- name: dashboard\n  rules:\n" + recorded.joined(), to: "dashboard.yml")
            let checked = try watched.filter.workspace.run(MonitoringRequirements.promtool, ["check", "rules", file])
            #expect(checked.ending == .exited(0), "\(checked.output)\(checked.error)")
        }

        private struct Dashboard: Decodable {
            struct Panel: Decodable {
                struct Target: Decodable { let expr: String }
                let targets: [Target]?
            }
            let panels: [Panel]
        }

        // MARK: HTTP

        @Test("only GET and HEAD are answered, with security headers, at names of this machine")
        func http() throws {
            let watched = try WatchedFilter()
            #expect(try watched.get("/healthz").body == "ok\n")
            #expect(try watched.get("/readyz").status == 200)
            for path in ["/", "/live.json", "/metrics", "/page.js", "/page.css", "/none"] {
                let headers = try watched.get(path).headers
                #expect(headers["x-content-type-options"] == "nosniff")
                #expect(headers["cache-control"] == "no-store")
                #expect(headers["content-security-policy"]?.hasPrefix("default-src 'none'; script-src 'self'") == true)
            }
            for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
                let answer = try watched.get("/", ["-X", method])
                #expect(answer.status == 405)
                #expect(answer.headers["allow"] == "GET, HEAD")
            }
            let head = try watched.get("/page.js", ["-I"])
            #expect(head.status == 200 && head.body.isEmpty)
            #expect(head.headers["content-length"] == "\(try watched.get("/page.js").body.utf8.count)")
            #expect(try watched.get("/none").status == 404)
            #expect(try watched.get("/live.json", ["-H", "Host: attacker.example"]).status == 421)
            #expect(try watched.get("/live.json", ["-H", "Host: localhost:\(watched.port)"]).status == 200)
        }

        @Test("readyz answers 503 while there is no index though one is expected")
        func notReady() throws {
            let workspace = try Workspace()
            var configuration = try PosternConfiguration(in: workspace, unixSocket: true)
            let port = try Ports.unused()
            configuration.values["http.listen"] = "\"127.0.0.1:\(port)\""
            configuration.rest = ""
            let postern = try PosternProcess(
                serving: try configuration.write(), socket: configuration.socket, in: workspace)
            let ready = try workspace.run("/usr/bin/curl", ["-si", "http://127.0.0.1:\(port)/readyz"])
            #expect(ready.output.hasPrefix("HTTP/1.1 503"))
            #expect(ready.output.contains("no index is in use"))
            let health = try workspace.run("/usr/bin/curl", ["-si", "http://127.0.0.1:\(port)/healthz"])
            #expect(health.output.hasPrefix("HTTP/1.1 200"))
            #expect(postern.stop() == .exited(0))
        }

        @Test("a message at the start says that the HTTP port is in use")
        func taken() throws {
            let watched = try WatchedFilter()
            let workspace = try Workspace()
            var configuration = try PosternConfiguration(in: workspace, unixSocket: true)
            configuration.values["http.listen"] = "\"127.0.0.1:\(watched.port)\""
            let postern = try PosternProcess(
                serving: try configuration.write(), socket: configuration.socket, in: workspace)
            #expect(
                eventually(within: 20) {
                    postern.messages.contains(
                        "http.listen: can't listen on 127.0.0.1:\(watched.port): Address already in use")
                })
            #expect(postern.stop() == .exited(0))
        }

        @Test("many slow clients and endless headers delay no other client, and their connections end")
        func hostileClients() throws {
            let watched = try WatchedFilter()
            var descriptors: [Int32] = []
            defer { for descriptor in descriptors { close(descriptor) } }
            for place in 0..<150 {
                let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                guard Ports.withLoopback("127.0.0.1", watched.port, { connect(descriptor, $0, $1) }) == 0 else {
                    close(descriptor)
                    continue
                }
                // An incomplete request; some have an endless header.
                _ = send(descriptor, "GET / HTTP/1.1\r\nX: ", 19, Int32(MSG_NOSIGNAL))
                if place % 50 == 0 {
                    var patience = timeval(tv_sec: 0, tv_usec: 200_000)
                    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
                    let flood = [UInt8](repeating: 0x61, count: 1 << 20)
                    _ = send(descriptor, flood, flood.count, Int32(MSG_NOSIGNAL))
                }
                descriptors.append(descriptor)
            }
            #expect(try watched.filter.answer("nobody@example.com") == "550")
            // The filter closes all connections in the end, with or without an answer.
            for descriptor in descriptors {
                var patience = timeval(tv_sec: 60, tv_usec: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
                var bytes = [UInt8](repeating: 0, count: 4096)
                var count = 1
                while count > 0 { count = read(descriptor, &bytes, bytes.count) }
                #expect(count == 0 || count < 0 && errno == ECONNRESET)
            }
            #expect(try watched.get("/healthz").status == 200)
            #expect(watched.filter.postern.stop() == .exited(0))
        }

        @Test(
            "while the filter has no free descriptor, it closes the connections of HTTP clients instead of letting them wait"
        )
        func noDescriptors() throws {
            let watched = try WatchedFilter()
            let pid = watched.filter.postern.pid
            #expect(try eventually(within: 20) { try watched.get("/healthz").status == 200 })
            func setLimit(_ descriptors: Int) throws {
                let run = try watched.filter.workspace.run(
                    "/usr/bin/prlimit", ["--pid", "\(pid)", "--nofile=\(descriptors):"])
                #expect(run.ending == .exited(0), "\(run.error)")
            }
            // MTAs use the free descriptors below the filter's own, of which one is kept as a spare.
            let connections = try (0..<16).map { _ in try watched.filter.connection() }
            let open = try Set(
                FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").compactMap { Int($0) })
            try setLimit(try #require((0..<1_000).first { !open.contains($0) }))
            for _ in 0..<4 {
                let run = try watched.filter.workspace.run(
                    "/usr/bin/curl", ["-s", "--max-time", "60", "\(watched.url)/healthz"])
                // 52 and 56: the connection was closed. 0: libmicrohttpd used the spare descriptor. 28 would be the time limit.
                #expect([.exited(52), .exited(56), .exited(0)].contains(run.ending))
            }
            try setLimit(1_000)
            #expect(try eventually(within: 20) { try watched.get("/healthz").status == 200 })
            withExtendedLifetime(connections) {}
            #expect(watched.filter.postern.stop() == .exited(0))
        }

        // MARK: The page

        @Test(
            "the live page shows rejections, and hostile text as text",
            .enabled(if: MonitoringRequirements.haveChromium))
        func page() throws {
            let watched = try WatchedFilter()
            let hostile = "<img src=x onerror=document.title='owned'>\u{202e}@example.com"
            _ = try watched.filter.answer(hostile)
            _ = try watched.filter.answer("nobody@example.com")
            #expect(try eventually(within: 20) { try watched.get("/live.json").body.contains("nobody@example.com") })
            let live = try watched.get("/live.json").body
            #expect(!live.contains("<") && !live.contains("&") && !live.contains("\u{202e}"))
            _ = try JSONSerialization.jsonObject(with: Data(live.utf8))
            let shown = try watched.filter.workspace.run(
                MonitoringRequirements.chromium,
                [
                    "--headless", "--no-sandbox", "--disable-gpu",
                    "--user-data-dir=\(watched.filter.workspace.file("chromium"))",
                    "--virtual-time-budget=5000", "--dump-dom", "\(watched.url)/",
                ])
            #expect(shown.output.contains("All is well"), "\(shown.output) \(shown.error)")
            #expect(shown.output.contains("nobody@example.com"))
            #expect(shown.output.contains("&lt;img src=x onerror"))
            #expect(!shown.output.contains("<img"))
            #expect(shown.output.contains("<title>Postern</title>"))
            #expect(shown.output.contains("<rect class=\"refused\""))
            #expect(shown.output.contains("people"))
        }

        @Test("log.redact hides local parts on the live page and in the messages")
        func redacted() throws {
            let watched = try WatchedFilter {
                $0.values["log.redact"] = "true"
                $0.values["log.lines"] = "true"
            }
            _ = try watched.filter.answer("nobody@example.com")
            #expect(try eventually(within: 20) { try watched.get("/live.json").body.contains("*@example.com") })
            #expect(try !watched.get("/live.json").body.contains("nobody"))
            #expect(eventually(within: 20) { watched.filter.postern.messages.contains("to=<*@example.com>") })
            #expect(!watched.filter.postern.messages.contains("nobody"))
        }

        // MARK: postern status

        @Test("status shows the running filter, and that a killed filter doesn't run")
        func status() throws {
            let watched = try WatchedFilter()
            _ = try watched.filter.answer("nobody@example.com")
            #expect(
                try eventually(within: 30) {
                    try watched.filter.configuration.run(["status"]).output.contains(
                        "last hour             0           1")
                })
            let status = try watched.filter.configuration.run(["status"])
            #expect(status.ending == .exited(0), "\(status.output)")
            let lines = status.output.split(separator: "\n", omittingEmptySubsequences: false)
            // Without a terminal, each trouble and each notice has one line.
            let rows = lines.filter { !$0.hasPrefix("! ") && !$0.hasPrefix("- ") }
            #expect(lines.count <= 24 && rows.allSatisfy { $0.count <= 80 }, "\(status.output)")
            #expect(lines.first == "all is well")
            for part in [
                "process \(watched.filter.postern.pid), up ", "sessions   ", "people (file)", "\(watched.url)/",
            ] {
                #expect(status.output.contains(part), "\(status.output)")
            }
            let json = try watched.filter.configuration.run(["status", "--format", "json"])
            let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
            let filter = try #require(object["filter"] as? [String: Any])
            #expect(filter["process"] as? Int == Int(watched.filter.postern.pid))
            #expect(((filter["live"] as? [String: Any])?["sessions"] as? [String: Any])?["total"] as? Int == 1)

            watched.filter.postern.signal(SIGKILL)
            _ = watched.filter.postern.ending()
            let gone = try watched.filter.configuration.run(["status"])
            #expect(gone.ending == .exited(1))
            #expect(gone.output.hasPrefix("! no filter is running"))
            #expect(gone.output.contains("last hour             0           1"))
            // The next filter replaces the socket that the killed filter has left.
            try watched.filter.restart()
            #expect(try watched.filter.configuration.run(["status"]).ending == .exited(0))
            #expect(watched.filter.postern.stop() == .exited(0))
            #expect(!FileManager.default.fileExists(atPath: watched.filter.workspace.file("rejections.sqlite-status")))
        }

        @Test("reload says that http.listen changes only with a restart")
        func reload() throws {
            let watched = try WatchedFilter()
            watched.filter.configuration.values["http.listen"] = "\"\""
            try watched.filter.configuration.write()
            let reloaded = try watched.filter.configuration.run(["reload"])
            #expect(reloaded.output.contains("changes only with a restart: http.listen"), "\(reloaded)")
            #expect(try watched.get("/healthz").status == 200)
        }
    }
}
