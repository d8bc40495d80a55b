import Foundation
import Glibc
import Testing

/// What `postern serve` says, and ends with, where it can't start. No Postfix is needed.
@Suite(.serialized) struct BadInputTests {
    /// Starts `serve`, which must end by itself.
    private func serve(
        _ configuration: PosternConfiguration, powerless: Bool = false, _ file: String = "postern.toml"
    ) throws -> (ending: ChildProcess.Ending?, error: String) {
        let workspace = configuration.workspace
        let name = "bad-\(UInt64.random(in: 0 ... .max)).err"
        var command = [PosternProcess.executable, "serve", "--config", workspace.file(file)]
        if powerless && geteuid() == 0 {
            // Root without its capabilities: the modes of files and folders count, the checkout stays readable.
            command = ["/usr/bin/setpriv", "--inh-caps=-all", "--bounding-set=-all"] + command
        }
        let child = try ChildProcess(
            command[0], Array(command.dropFirst()), output: workspace.file("\(name).out"), error: workspace.file(name))
        return (child.wait(atMost: 30), workspace.text(of: name))
    }

    @Test("serve reports every fault of a configuration at once, with key, value and accepted values")
    func manyFaults() throws {
        var configuration = try PosternConfiguration(in: try Workspace())
        configuration.values["milter.socket"] = "\"carrier pigeon\""
        configuration.values["milter.sockt"] = "\"inet:1@localhost\""
        configuration.values["policy.mode"] = "\"enforced\""
        configuration.values["relay.subdomains"] = "\"yes\""
        configuration.values["relay.domains_from"] = "[\"missing-table\"]"
        configuration.values["harvest.window"] = "\"ten minutes\""
        configuration.values["replies.unknown"] = "\"250 2.0.0 fine\""
        configuration.values["sync.max_shrink"] = "\"200%\""
        let file = try configuration.write()
        for arguments in [["serve"], ["config", "check"], ["check", "anna@example.com"], ["sync", "--once"]] {
            let result = try configuration.run(arguments)
            #expect(result.ending == .exited(78), "\(arguments): \(result)")
            #expect(result.error.contains(file))
            for part in [
                "milter.socket", "carrier pigeon", "sockt", "policy.mode", "enforced", "\"observe\"",
                "relay.subdomains",
                "missing-table", "harvest.window", "ten minutes", "replies.unknown", "250 2.0.0 fine",
                "sync.max_shrink",
            ] { #expect(result.error.contains(part), "\(arguments): \(part) isn't in:\n\(result.error)") }
        }
    }

    @Test(
        "one configuration fault stops the start",
        arguments: [
            ("milter.socket", "42"), ("milter.socket", "\"inet:99999@127.0.0.1\""), ("milter.socket_mode", "\"rw\""),
            ("relay.domains", "[]"), ("relay.domains", "[\"exa mple\"]"),
            ("relay.trusted_networks", "[\"10.0.0.0/99\"]"),
            ("recipients.delimiter", "\"@\""), ("policy.index_missing", "\"reject\""), ("harvest.limit", "-1"),
            ("replies.relay", "\"450 4.7.1 later\""), ("replies.harvest", "\"550 5.7.1 never\""),
            ("replies.unknown", "\"550 5.1.1 two\\r\\nlines\""), ("index.max_age", "\"a week\""),
            ("log.retention", "\"0s\""),
            ("nonsense.key", "1"),
        ])
    func oneFault(key: String, value: String) throws {
        var configuration = try PosternConfiguration(in: try Workspace())
        if key.hasPrefix("nonsense") {
            configuration.rest += "[nonsense]\nkey = \(value)\n"
        } else {
            configuration.values[key] = value
        }
        try configuration.write()
        let result = try serve(configuration)
        #expect(result.ending == .exited(78), "\(result)")
        #expect(result.error.contains(key.hasPrefix("nonsense") ? "nonsense" : key))
    }

    @Test func missingUnreadableAndBrokenFiles() throws {
        let configuration = try PosternConfiguration(in: try Workspace())
        let missing = try serve(configuration, "nowhere.toml")
        #expect(missing.ending == .exited(78))
        #expect(missing.error.contains("nowhere.toml"))

        let file = try configuration.write()
        chmod(file, 0)
        let unreadable = try serve(configuration, powerless: true)
        #expect(unreadable.ending == .exited(78))
        #expect(unreadable.error.contains(file))

        try configuration.workspace.write("[relay\ndomains = [", to: "broken.toml")
        let broken = try serve(configuration, "broken.toml")
        #expect(broken.ending == .exited(78))
        #expect(broken.error.contains("broken.toml"))
    }

    @Test("serve exits if the file of a source is missing and there is no index")
    func missingSource() throws {
        let configuration = try PosternConfiguration(in: try Workspace())
        try FileManager.default.removeItem(atPath: configuration.workspace.file("recipients"))
        try configuration.write()
        let result = try serve(configuration)
        #expect(result.ending == .exited(78))
        #expect(result.error.contains(configuration.workspace.file("recipients")))
    }

    @Test("a second filter doesn't replace the socket of a running filter", arguments: [false, true])
    func socketInUse(unixSocket: Bool) throws {
        let workspace = try Workspace()
        let configuration = try PosternConfiguration(in: workspace, unixSocket: unixSocket)
        try configuration.write()
        let first = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)
        // A second filter with files of its own.
        var other = configuration
        other.values["index.path"] = "\"other.index\""
        other.values["sync.state"] = "\"other.sqlite\""
        other.values["log.database"] = "\"other-log.sqlite\""
        try other.write(to: "other.toml")
        let result = try serve(other, "other.toml")
        #expect(result.ending == .exited(69), "\(result)")
        #expect(result.error.split(separator: "\n").count == 1, "\(result.error)")
        #expect(result.error.contains("\(configuration.socket)".dropFirst(5)))
        #expect(configuration.socket.answers)
        #expect(first.stop() == .exited(0))
    }

    @Test func socketNotPermitted() throws {
        var configuration = try PosternConfiguration(in: try Workspace())
        let folder = try configuration.workspace.makeFolder("locked", mode: 0o500)
        configuration.values["milter.socket"] = "\"unix:\(folder)/postern.sock\""
        try configuration.write()
        let result = try serve(configuration, powerless: true)
        #expect(result.ending == .exited(77), "\(result)")
        #expect(result.error.split(separator: "\n").count == 1, "\(result.error)")
        #expect(result.error.contains(folder))
    }

    @Test(
        "the filter reports a folder that it can't write to, and keeps running until it can",
        arguments: ["index.path", "sync.state"])
    func folderNotWritable(key: String) throws {
        var configuration = try PosternConfiguration(in: try Workspace())
        let workspace = configuration.workspace
        configuration.values[key] = "\"absent/file\""
        configuration.values["sync.interval"] = "\"1s\""
        let postern = try PosternProcess(
            serving: try configuration.write(), socket: configuration.socket, in: workspace)
        let folder = workspace.file("absent")
        #expect(eventually(within: 20) { postern.messages.contains("state: ") && postern.messages.contains(folder) })
        #expect(!postern.messages.contains("recipients in use"))
        try workspace.makeFolder("absent")
        #expect(eventually(within: 30) { postern.messages.contains("recipients in use") })
        #expect(postern.stop() == .exited(0))
    }

    @Test("the filter runs with a log of a newer version, and doesn't change that log")
    func newerDatabase() throws {
        let workspace = try Workspace()
        let configuration = try PosternConfiguration(in: workspace)
        try configuration.write()
        let first = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)
        #expect(first.stop() == .exited(0))
        let database = URL(fileURLWithPath: workspace.file("rejections.sqlite"))
        var bytes = try Data(contentsOf: database)
        // SQLite keeps `user_version` in the bytes from 60 of its header (Database File Format, 1.3).
        bytes.replaceSubrange(60..<64, with: [0, 0, 0x27, 0x0f])
        try bytes.write(to: database)
        let report = try configuration.run(["report"])
        #expect(report.ending == .exited(65), "\(report)")
        #expect(report.error.contains("newer"))
        let second = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)
        #expect(second.stop() == .exited(0))
        #expect(second.messages.contains("was written by a newer Postern"), "\(second.messages)")
        #expect(try Data(contentsOf: database) == bytes)
    }

    @Test("the filter renames a log file that isn't a database, and begins a new log")
    func notADatabase() throws {
        let workspace = try Workspace()
        let configuration = try PosternConfiguration(in: workspace)
        let text = String(repeating: "precious notes of someone else\n", count: 100)
        let path = try workspace.write(text, to: "rejections.sqlite")
        try configuration.write()
        let filter = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)
        #expect(filter.stop() == .exited(0))
        #expect(filter.messages.contains("it was moved to \(path).damaged-"), "\(filter.messages)")
        let copy = try FileManager.default.contentsOfDirectory(atPath: workspace.file(""))
            .first { $0.hasPrefix("rejections.sqlite.damaged-") }
        #expect(copy.map { workspace.text(of: $0) } == text)
        #expect(try configuration.run(["report"]).ending == .exited(0))
    }
}
