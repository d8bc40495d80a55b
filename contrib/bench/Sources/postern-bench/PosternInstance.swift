import Foundation
import Glibc

/// A configuration of Postern in a folder of its own, and what runs by it.
final class PosternInstance {
    let folder: String
    let port: UInt16
    private let program: String
    private var child: Child?

    /// - Parameters:
    ///   - sources: the tables of the configuration's sources.
    ///   - settings: lines at the end of `[sync]`.
    init(_ plan: Plan, sources: String, settings: String = "") throws {
        program = plan.postern
        port = try Ports.unused()
        folder = try Scratch.folder("postern", mode: 0o700)
        try Scratch.write(
            """
            [milter]
            socket = "inet:\(port)@127.0.0.1"
            [relay]
            domains = ["example.com"]
            trusted_networks = []
            [harvest]
            limit = 0
            [index]
            path = "recipients.index"
            [sync]
            state = "sync.sqlite"
            \(settings)
            [log]
            database = "rejections.sqlite"
            \(sources)

            """, to: "\(folder)/postern.toml")
    }

    /// A source of type `openldap`.
    static func source(_ slapd: Slapd, in folder: String = Scratch.root) throws -> String {
        let secret = try Scratch.write(Slapd.password + "\n", to: "\(folder)/slapd.secret", mode: 0o600)
        return """
            [[source]]
            name = "people"
            type = "openldap"
            uris = ["\(slapd.uri)"]
            bases = ["\(Slapd.base)"]
            bind_dn = "\(Slapd.bindDN)"
            password_file = "\(secret)"
            allow_plaintext = true
            """
    }

    /// One whole run of `postern sync --once`.
    @discardableResult func sync() throws -> Child.Ending {
        try Child.run(program, ["sync", "--once", "--config", "\(folder)/postern.toml"])
    }

    /// One whole run of `postern check --batch`; what it says goes nowhere.
    func check(_ addresses: String) throws -> Child.Ending {
        try Child.run(program, ["check", "--batch", "--config", "\(folder)/postern.toml"], input: addresses)
    }

    /// Forgets the state and the index.
    func forget() throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name != "postern.toml" {
            try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
    }

    /// Starts `postern serve` and waits until it listens.
    func serve() throws {
        let child = try Child(
            program, ["serve", "--config", "\(folder)/postern.toml"], output: "\(folder)/log", error: "\(folder)/log",
            isDaemon: true)
        self.child = child
        let port = port
        guard eventually(within: 30, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw Failure("postern serve doesn't listen:\n\(log)")
        }
    }

    var log: String { Scratch.tail(of: "\(folder)/log") }

    func stop() { child?.end() }

    /// Seconds of the processor that `postern serve` has taken so far.
    func processorSeconds() throws -> Double { try child?.processorSeconds() ?? 0 }

    /// Octets that `postern serve` has resident: its own, and of files.
    func resident() throws -> (anonymous: Double, fileBacked: Double) {
        let text = try String(contentsOfFile: "/proc/\(child?.pid ?? 0)/smaps_rollup", encoding: .utf8)
        func kibibytes(_ name: String) -> Double {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
            return line.flatMap { Double($0.split(separator: " ")[1]) } ?? 0
        }
        let anonymous = kibibytes("Anonymous")
        return (anonymous * 1_024, (kibibytes("Rss") - anonymous) * 1_024)
    }
}
