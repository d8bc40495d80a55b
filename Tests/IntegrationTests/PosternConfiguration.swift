import Foundation
import Glibc

/// A configuration file for a test, with all files in the test's folder: what a test says stands beside defaults that
/// make a gateway of example.com, example.org (a catch-all) and example.net.
struct PosternConfiguration {
    /// The tables in the file's order.
    private static let tables = [
        "milter", "relay", "recipients", "policy", "harvest", "replies", "index", "sync", "log", "http",
    ]
    static let relayDomains = ["example.com", "example.org", "example.net"]
    static let listed = ["anna@example.com", "bob@example.com", "carl@example.net", "@example.org"]

    /// TOML values by dotted key.
    var values: [String: String]
    /// What stands below the tables: `[[domain]]` and `[[source]]`.
    var rest: String
    let socket: FilterSocket
    let workspace: Workspace

    /// The defaults.
    ///
    /// - Parameters:
    ///   - unixSocket: whether the filter listens on a unix socket in a folder that only the group postfix may enter, as on a
    ///     real gateway, instead of on a port of the loopback.
    ///   - socket: where the filter listens instead of that.
    init(in workspace: Workspace, unixSocket: Bool = false, socket: FilterSocket? = nil) throws {
        self.workspace = workspace
        if let socket {
            self.socket = socket
        } else if unixSocket {
            // The socket takes over the folder's group.
            let folder = try workspace.makeFolder("run")
            chown(folder, 0, getgrnam("postfix")?.pointee.gr_gid ?? 0)
            chmod(folder, 0o2750)
            self.socket = .unix("\(folder)/postern.sock")
        } else {
            self.socket = .inet(try Ports.unused())
        }
        values = [
            "milter.socket": "\"\(self.socket)\"", "milter.socket_mode": "\"0660\"",
            "relay.domains": "[\(Self.relayDomains.map { "\"\($0)\"" }.joined(separator: ", "))]",
            "relay.trusted_networks": "[\"127.0.0.1/32\"]",
            // Tests ask for more strangers than any client should.
            "harvest.limit": "0",
            "index.path": "\"recipients.index\"", "sync.state": "\"sync.sqlite\"", "sync.max_shrink": "\"100%\"",
            // What goes is rejected at once.
            "sync.grace": "\"0s\"",
            // Messages are searched for faults.
            "log.database": "\"rejections.sqlite\"", "log.lines": "false",
        ]
        rest = """
            [[source]]
            name = "people"
            type = "file"
            format = "postfix"
            path = "recipients"

            """
        try list(Self.listed)
    }

    /// Writes the source's file.
    func list(_ recipients: [String]) throws {
        try workspace.write(recipients.map { "\($0) ok\n" }.joined(), to: "recipients")
    }

    /// Writes the configuration file and returns its path.
    @discardableResult func write(to name: String = "postern.toml") throws -> String {
        var text = ""
        for table in Self.tables {
            let lines = values.filter { $0.key.hasPrefix("\(table).") }.sorted { $0.key < $1.key }
            guard !lines.isEmpty else { continue }
            text +=
                "[\(table)]\n" + lines.map { "\($0.key.dropFirst(table.count + 1)) = \($0.value)\n" }.joined() + "\n"
        }
        return try workspace.write(text + rest, to: name)
    }

    /// Runs another `postern` command with this configuration.
    func run(
        _ arguments: [String], input: String? = nil, file: String = "postern.toml"
    ) throws -> (ending: ChildProcess.Ending, output: String, error: String) {
        try workspace.run(
            PosternProcess.executable, arguments + ["--config", workspace.file(file)], input: input)
    }
}
