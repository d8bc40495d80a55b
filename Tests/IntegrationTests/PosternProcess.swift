import Foundation
import Glibc

/// `postern serve` as a process of the test's own.
final class PosternProcess {
    /// The program that was built together with the tests, or the one that POSTERN_BINARY names.
    static let executable: String =
        ProcessInfo.processInfo.environment["POSTERN_BINARY"]
        ?? URL(fileURLWithPath: (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "")
        .deletingLastPathComponent().appendingPathComponent("postern").path

    private let child: ChildProcess
    private let workspace: Workspace
    private let errorFile: String

    /// Starts `postern serve --config FILE`, and doesn't wait for anything.
    ///
    /// - Parameters:
    ///   - standardError: where its messages go, for a test that doesn't read them.
    ///   - launcher: a program with its first arguments that runs it.
    init(
        launching configuration: String, in workspace: Workspace, standardError: String? = nil, launcher: [String] = []
    ) throws {
        self.workspace = workspace
        errorFile = "serve-\(UInt64.random(in: 0 ... .max)).err"
        let command = launcher + [Self.executable, "serve", "--config", configuration]
        child = try ChildProcess(
            command[0], Array(command.dropFirst()), output: workspace.file("serve.out"),
            error: standardError ?? workspace.file(errorFile))
    }

    /// Starts `postern serve --config FILE` and waits until its socket answers.
    convenience init(
        serving configuration: String, socket: FilterSocket, in workspace: Workspace, standardError: String? = nil,
        launcher: [String] = []
    ) throws {
        try self.init(
            launching: configuration, in: workspace, standardError: standardError, launcher: launcher)
        guard eventually(within: 30, { socket.answers || !child.isRunning }), child.isRunning else {
            throw ChildProcess.Failure(
                description: "postern serve: \(child.ending.map { "\($0)" } ?? "doesn't answer")\n\(messages)")
        }
    }

    /// What it has written to standard error.
    var messages: String { workspace.text(of: errorFile) }

    /// Its process id, while it runs.
    var pid: Int32 { child.pid }

    /// True until it has ended.
    var isRunning: Bool { child.isRunning }

    /// Sends a signal.
    func signal(_ number: Int32) { child.signal(number) }

    /// Waits for its end; nil: still running after this time.
    func ending(within seconds: Double = 30) -> ChildProcess.Ending? { child.wait(atMost: seconds) }

    /// Asks it to end cleanly, and waits for that.
    func stop() -> ChildProcess.Ending? {
        signal(SIGTERM)
        return ending()
    }
}

/// Where a test's filter listens.
enum FilterSocket: CustomStringConvertible {
    case inet(UInt16)
    case unix(String)

    /// As in `milter.socket`.
    var description: String {
        switch self {
        case .inet(let port): "inet:\(port)@127.0.0.1"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// As in Postfix's `smtpd_milters`.
    var postfixName: String {
        switch self {
        case .inet(let port): "inet:127.0.0.1:\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// Whether a filter accepts connections there.
    var answers: Bool {
        switch self {
        case .inet(let port): return Ports.answers(port)
        case .unix(let path):
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            guard descriptor >= 0 else { return false }
            defer { close(descriptor) }
            var name = sockaddr_un()
            name.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(path.utf8)
            guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return false }
            withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
            let size = socklen_t(MemoryLayout<sockaddr_un>.size)
            return withUnsafePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) == 0 }
            }
        }
    }
}
