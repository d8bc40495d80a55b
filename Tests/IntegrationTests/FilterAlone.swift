import Foundation
import TestSupport
import Testing

/// `postern serve` without an MTA: the tests speak the milter protocol to it themselves, and need no Postfix for it.
@Suite(.serialized) enum FilterAlone {}

/// A running filter and the MTA's side of its connections.
final class LoneFilter {
    let workspace: Workspace
    var configuration: PosternConfiguration
    private(set) var postern: PosternProcess
    /// The unix socket.
    let socket: String

    /// Publishes the index and starts the filter.
    ///
    /// - Parameter adjust: changes the configuration before it is written.
    init(_ adjust: (inout PosternConfiguration) throws -> Void = { _ in }) throws {
        workspace = try Workspace()
        var configuration = try PosternConfiguration(in: workspace, unixSocket: true)
        try adjust(&configuration)
        self.configuration = configuration
        guard case .unix(let socket) = configuration.socket else { throw TestFailure("no unix socket") }
        self.socket = socket
        let file = try configuration.write()
        if !configuration.rest.isEmpty {
            let synced = try configuration.run(["sync", "--once"])
            guard synced.ending == .exited(0) else { throw TestFailure("postern sync: \(synced.error)") }
        }
        postern = try PosternProcess(serving: file, socket: configuration.socket, in: workspace)
    }

    /// A connection on which a client has said HELO and MAIL.
    func connection(from client: String = "192.0.2.7") throws -> MTAConnection {
        try MTAConnection.started(path: socket, client: client)
    }

    /// What the filter answers to a recipient, in a connection of its own.
    func answer(_ recipient: String, from client: String = "192.0.2.7") throws -> String {
        try connection(from: client).answer(recipient)
    }

    /// Starts the filter again, after a test has ended it.
    func restart(standardError: String? = nil, launcher: [String] = []) throws {
        postern = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace,
            standardError: standardError, launcher: launcher)
    }

    /// Ends the filter, breaks something while none runs, and starts it again.
    func restart(after breaking: () throws -> Void) throws {
        guard postern.stop() == .exited(0) else { throw TestFailure("the filter didn't end: \(postern.messages)") }
        try breaking()
        try restart()
    }

    /// The report as `--format json` gives it.
    func report(_ arguments: [String] = []) throws -> Report {
        let result = try configuration.run(["report", "--format", "json"] + arguments)
        guard result.ending == .exited(0) else { throw TestFailure("postern report: \(result.error)") }
        return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    }
}

extension MTAConnection {
    /// The answer to a recipient as its code: `550`, or `250` for a recipient that the filter has nothing against.
    func answer(_ recipient: String) throws -> String {
        let packet = try self.recipient("<\(recipient)>")
        switch packet.command {
        case "c": return "250"
        case "y": return String(packet.text.prefix(3))
        default: return String(packet.command)
        }
    }
}
