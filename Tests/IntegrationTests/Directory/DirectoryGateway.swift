import Foundation
import Glibc

/// Postern with directories as its sources: the configuration, the commands, and the filter where a test wants it.
///
/// The relay domains are those of ``PosternConfiguration``. Nothing runs or is published until a test starts it.
final class DirectoryGateway {
    /// The file in the test's folder that holds the password of a private slapd's service account.
    static let secret = "secret"

    let workspace: Workspace
    var configuration: PosternConfiguration
    var sources: [SourceTable] {
        didSet { configuration.rest = sources.map(\.text).joined() }
    }
    private(set) var postern: PosternProcess?
    /// The output of all commands, and the messages of the filters that have ended.
    private(set) var said = ""

    /// Writes the configuration.
    ///
    /// - Parameter adjust: changes it before it is written.
    init(
        in workspace: Workspace, _ sources: [SourceTable], _ adjust: (inout PosternConfiguration) -> Void = { _ in }
    ) throws {
        self.workspace = workspace
        configuration = try PosternConfiguration(in: workspace)
        configuration.values["sync.interval"] = "\"1h\""
        adjust(&configuration)
        self.sources = sources
        configuration.rest = sources.map(\.text).joined()
        try write(secret: SlapdInstance.password)
        try configuration.write()
    }

    /// Writes the file with the password.
    @discardableResult
    func write(secret: String, to name: String = secret, mode: mode_t = 0o600) throws -> String {
        let path = try workspace.write(secret + "\n", to: name)
        chmod(path, mode)
        return path
    }

    /// Changes sources and writes the configuration, for the next command.
    func configure(_ sources: [SourceTable]) throws {
        self.sources = sources
        try configuration.write()
    }

    // MARK: Commands

    /// Runs `postern sync --once` with further options.
    @discardableResult func sync(_ options: String...) throws -> SyncRun {
        let result = try configuration.run(["sync", "--once", "--format", "json"] + options)
        said += result.output + result.error
        return SyncRun(result)
    }

    /// Syncs, and fails unless the exit status is 0.
    @discardableResult func publish(_ options: [String] = []) throws -> SyncRun.Report {
        let result = try configuration.run(["sync", "--once", "--format", "json"] + options)
        said += result.output + result.error
        let run = SyncRun(result)
        guard run.status == 0, let report = run.report else {
            throw ChildProcess.Failure(description: "postern sync: \(result.ending)\n\(run.output)\(run.error)")
        }
        return report
    }

    /// The output of `postern sync --once` for people.
    func text(_ options: [String] = []) throws -> String {
        let result = try configuration.run(["sync", "--once"] + options)
        said += result.output + result.error
        return result.output + result.error
    }

    /// The verdict on an address and its reason in the form of `postern check`, such as `accept listed`.
    ///
    /// - Parameter client: the client's address; nil for an untrusted client.
    func verdict(_ address: String, client: String? = nil) throws -> String {
        try verdicts([address], client: client)[address] ?? "none"
    }

    /// The verdicts on addresses.
    func verdicts(_ addresses: [String], client: String? = nil) throws -> [String: String] {
        let options = client.map { ["--client", $0] } ?? []
        let result = try configuration.run(
            ["check", "--batch"] + options, input: addresses.map { "\($0)\n" }.joined())
        said += result.output + result.error
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postern check: \(result.ending)\n\(result.error)")
        }
        let lines = result.output.split(separator: "\n").map { $0.split(separator: "\t") }
        return Dictionary(
            lines.filter { $0.count == 3 }.map { (String($0[2]), "\($0[0]) \($0[1])") }, uniquingKeysWith: { $1 })
    }

    /// The addresses among these that the published index lists for untrusted clients.
    func listed(_ addresses: [String]) throws -> Set<String> {
        Set(try verdicts(addresses).filter { $0.value == "accept listed" }.keys)
    }

    /// Whether the index soon lists these addresses, and not the others.
    func comesToList(_ wanted: [String], not unwanted: [String] = [], within seconds: Double = 20) throws -> Bool {
        try eventually(within: seconds) { try listed(wanted + unwanted) == Set(wanted) }
    }

    /// The output of `postern index info`; nil if no sound index is published.
    func index() throws -> IndexInfo? {
        let result = try configuration.run(["index", "info", "--format", "json"])
        guard result.ending == .exited(0) else { return nil }
        return try JSONDecoder().decode(IndexInfo.self, from: Data(result.output.utf8))
    }

    // MARK: The filter

    /// The messages of the filter so far.
    var messages: String { postern?.messages ?? "" }

    /// Starts `postern serve` and waits until it answers.
    func serve() throws {
        stop()
        postern = try PosternProcess(
            serving: configuration.write(), socket: configuration.socket, in: workspace)
    }

    /// Ends the filter, if it runs.
    @discardableResult func stop() -> ChildProcess.Ending? {
        defer {
            said += messages
            postern = nil
        }
        return postern?.stop()
    }
}

/// The published index, as far as `index info --format json` is promised.
struct IndexInfo: Decodable, Equatable {
    let generation: Int
    let recipients: Int
}

/// One run of `postern sync --once --format json`.
struct SyncRun {
    /// The report, as far as it is promised.
    struct Report: Decodable {
        struct Changes: Decodable, Equatable {
            let count: Int
            let addresses: [String]
        }

        struct Foreign: Decodable {
            let count: Int
            let first: [String]
        }

        struct Source: Decodable {
            let name: String
            let reading: String
            let read: Int
            let listed: Int
            let foreign: Foreign
            let skipped: [String: Int]
            let failure: String?
            let server: String?
            let method: String?
        }

        struct Refusal: Decodable {
            let removed: Int
            let first: [String]
        }

        let outcome: String
        let generation: Int
        let recipients: Int
        let added: Changes
        let removed: Changes
        let changed: Changes
        let sources: [Source]
        let notes: [String]
        let refusal: Refusal?

        /// The first source: for most tests the only one.
        var source: Source? { sources.first }
        /// How the first source was read: `full`, `changes`, `unchanged`, `failed`.
        var reading: String { source?.reading ?? "none" }
    }

    /// The exit status; nil where a signal ended it.
    let status: Int32?
    let report: Report?
    let output: String
    let error: String

    init(_ result: (ending: ChildProcess.Ending, output: String, error: String)) {
        if case .exited(let code) = result.ending { status = code } else { status = nil }
        output = result.output
        error = result.error
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        report = try? decoder.decode(Report.self, from: Data(result.output.utf8))
    }

    /// The lines of the error messages.
    /// Its messages about the sync, without notes on the configuration.
    var messages: [String] {
        error.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("postern: note: ") }
    }
}
