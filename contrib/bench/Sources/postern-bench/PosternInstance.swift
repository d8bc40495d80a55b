import Foundation
import Glibc

/// A configuration of Postern in a folder of its own, and the processes that use it.
final class PosternInstance {
    let folder: String
    let port: UInt16
    private let program: String
    private let socket: String?
    private let wrapper: [String]
    private var child: Child?

    /// - Parameters:
    ///   - sources: the tables of the configuration's sources.
    ///   - settings: lines at the end of `[sync]`.
    ///   - socket: the path of a unix socket; nil for a TCP port.
    ///   - processors: the processors for it, in the form of taskset(1); nil for all.
    init(
        _ plan: Plan, sources: String, settings: String = "", name: String = "postern", socket: String? = nil,
        processors: String? = nil
    ) throws {
        program = plan.postern
        wrapper = processors.map { ["/usr/bin/taskset", "-c", $0] } ?? []
        port = try Ports.unused()
        self.socket = socket
        folder = try Scratch.folder(name, mode: 0o700)
        try Scratch.write(
            """
            [milter]
            socket = "\(socket.map { "unix:\($0)" } ?? "inet:\(port)@127.0.0.1")"
            socket_mode = "0666"
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

    /// Runs `postern sync --once`.
    @discardableResult func sync() throws -> Child.Ending {
        try Child.run(program, ["sync", "--once", "--config", "\(folder)/postern.toml"])
    }

    /// Runs `postern check --batch`; its output is discarded.
    func check(_ addresses: String) throws -> Child.Ending {
        try Child.run(program, ["check", "--batch", "--config", "\(folder)/postern.toml"], input: addresses)
    }

    /// Removes the sync state and the index.
    func forget() throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name != "postern.toml" {
            try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
    }

    /// Starts `postern serve` and waits until it listens.
    func serve() throws {
        let words = wrapper + [program, "serve", "--config", "\(folder)/postern.toml"]
        let child = try Child(
            words[0], Array(words.dropFirst()), output: "\(folder)/log", error: "\(folder)/log", isDaemon: true)
        self.child = child
        guard eventually(within: 30, { isServing || !child.isRunning }), child.isRunning else {
            throw Failure("postern serve doesn't listen:\n\(log)")
        }
    }

    /// Seconds from the start of `postern serve` until it accepts a connection; ends it then.
    func timeToListen() throws -> Double {
        let child = try Child(
            program, ["serve", "--config", "\(folder)/postern.toml"], output: "\(folder)/log", error: "\(folder)/log")
        let began = ContinuousClock.now
        let port = port
        let listens = eventually(within: 30, every: 500) { Ports.answers(port) || !child.isRunning }
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        guard listens, child.isRunning else { throw Failure("postern serve doesn't listen:\n\(log)") }
        child.end()
        return seconds
    }

    private var isServing: Bool {
        socket.map(Ports.exists) ?? Ports.answers(port)
    }

    /// The figures of `postern report`, after the filter has ended.
    func report() throws -> Report {
        let file = Scratch.path("report.json")
        unlink(file)
        try Child.run(
            program, ["report", "--format", "json", "--config", "\(folder)/postern.toml"], output: file)
        return try JSONDecoder().decode(Report.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    }

    /// The part of the report that is used here.
    struct Report: Decodable {
        struct Totals: Decodable {
            let refused: Int
            let thinned: Int
        }
        let totals: Totals
    }

    var log: String { Scratch.tail(of: "\(folder)/log") }

    /// The largest resident memory of `postern serve` in bytes, without files; of files, the kernel reports only the
    /// present size.
    func peakAnonymous() throws -> Double {
        let text = try String(contentsOfFile: "/proc/\(child?.pid ?? 0)/status", encoding: .utf8)
        func kibibytes(_ name: String) -> Double {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
            return line.flatMap { Double($0.split(whereSeparator: \.isWhitespace)[1]) } ?? 0
        }
        return max(kibibytes("RssAnon"), kibibytes("VmHWM") - kibibytes("RssFile")) * 1_024
    }

    func stop() { child?.end() }

    /// Seconds of processor time that `postern serve` has used so far.
    func processorSeconds() throws -> Double { try child?.processorSeconds() ?? 0 }

    /// Waits until the log has caught up, so that its work isn't part of the next measurement.
    func settle() throws {
        let isAtRest = try eventually(within: 120) {
            let before = try processorSeconds()
            usleep(500_000)
            return try processorSeconds() - before <= 0.02
        }
        guard isAtRest else { throw Failure("Postern is still busy after two minutes:\n\(log)") }
    }

    /// Resident memory of `postern serve` in bytes: its own, and that of files.
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
