import Foundation
import Glibc

/// A temporary folder of one test; gone with the last reference to it.
///
/// Its name carries the process that owns it, so that a later run finds what a killed one has left.
final class Workspace {
    let path: String

    /// Where test folders may lie.
    enum Parent: String, CaseIterable {
        /// Whatever TMPDIR says: daemons that run as another user must reach it.
        case temporary = "/tmp"
        /// A folder that only root may write to, as Sendmail wants it on the way to a socket.
        case run = "/run"

        fileprivate var prefix: String { "\(rawValue)/postern-test." }
    }

    private static let clearedLeftovers: Void = {
        for parent in Parent.allCases { clearLeftovers(in: parent) }
    }()

    init(in parent: Parent = .temporary) throws {
        _ = Self.clearedLeftovers
        let owner = "\(getpid())-\(Self.startTime(of: getpid()) ?? "0")"
        let template = "\(parent.prefix)\(owner).XXXXXX"
        var name = Array(template.utf8CString)
        guard mkdtemp(&name) != nil else {
            throw ChildProcess.Failure(description: "\(template): \(String(cString: strerror(errno)))")
        }
        path = name.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? template }
        chmod(path, 0o755)
    }

    deinit {
        Self.unmountAll(below: path)
        try? FileManager.default.removeItem(atPath: path)
    }

    /// A file system of its own in memory, at a folder of this name; for root.
    ///
    /// - Parameter options: as mount(8) has them, such as `size=300k`.
    @discardableResult func mountMemory(_ name: String, _ options: String) throws -> String {
        let folder = try makeFolder(name)
        try mount(["-t", "tmpfs", "-o", options, "tmpfs", folder])
        return folder
    }

    /// Mounts a file system that is mounted at the folder of this name anew with these options, such as `ro`.
    func remount(_ name: String, _ options: String) throws {
        try mount(["-o", "remount,\(options)", file(name)])
    }

    private func mount(_ arguments: [String]) throws {
        let result = try run("/usr/bin/mount", arguments)
        guard result.ending == .exited(0) else { throw ChildProcess.Failure(description: "mount: \(result.error)") }
    }

    /// Takes away what is mounted below a folder.
    private static func unmountAll(below folder: String) {
        let mounts = (try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)) ?? ""
        for line in mounts.split(separator: "\n").reversed() {
            let fields = line.split(separator: " ")
            if fields.count > 1, fields[1].hasPrefix("\(folder)/") { umount2(String(fields[1]), Int32(MNT_DETACH)) }
        }
    }

    /// The path of `name` in the folder.
    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Makes a folder in the folder.
    @discardableResult func makeFolder(_ name: String, mode: mode_t = 0o755) throws -> String {
        let folder = file(name)
        guard mkdir(folder, mode) == 0, chmod(folder, mode) == 0 else {
            throw ChildProcess.Failure(description: "\(folder): \(String(cString: strerror(errno)))")
        }
        return folder
    }

    /// Writes a file in place of the one that is there, as an editor would: with a rename.
    @discardableResult func write(_ text: String, to name: String) throws -> String {
        let path = file(name)
        try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        chmod(path, 0o644)
        return path
    }

    /// The text of a file; empty where there is none.
    func text(of name: String) -> String {
        FileManager.default.contents(atPath: file(name)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// Runs a program to its end.
    func run(
        _ executable: String, _ arguments: [String], input: String? = nil, environment: [String: String] = [:]
    ) throws -> (ending: ChildProcess.Ending, output: String, error: String) {
        let stem = "run-\(UInt64.random(in: 0 ... .max))"
        var inputFile = "/dev/null"
        if let input { inputFile = try write(input, to: "\(stem).in") }
        let child = try ChildProcess(
            executable, arguments, input: inputFile, output: file("\(stem).out"), error: file("\(stem).err"),
            environment: environment)
        let ending = child.wait()
        return (ending, text(of: "\(stem).out"), text(of: "\(stem).err"))
    }
}

extension Workspace {
    /// Ends the daemons that a killed run has left behind, and removes its folders.
    private static func clearLeftovers(in parent: Parent) {
        let files = FileManager.default
        let names = (try? files.contentsOfDirectory(atPath: parent.rawValue)) ?? []
        for folder in names.map({ "\(parent.rawValue)/\($0)" }) where folder.hasPrefix(parent.prefix) {
            let owner = folder.dropFirst(parent.prefix.count).prefix { $0 != "." }.split(separator: "-")
            guard owner.count == 2, let pid = pid_t(owner[0]) else { continue }
            if startTime(of: pid).map({ $0 == owner[1] }) ?? false { continue }
            for process in processes(in: folder) { kill(process, SIGKILL) }
            _ = eventually(within: 10) { processes(in: folder).isEmpty }
            unmountAll(below: folder)
            try? files.removeItem(atPath: folder)
        }
    }

    /// The processes that work in the folder: Postfix's and Sendmail's have its queue as their working directory, Samba's,
    /// which write over their arguments, their folder; `postern` and slapd name their configuration file.
    static func processes(in folder: String) -> [pid_t] {
        let pids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { pid_t($0) } ?? []
        return pids.filter { pid in
            guard pid != getpid() else { return false }
            let directory = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/cwd")
            if directory?.hasPrefix("\(folder)/") ?? false { return true }
            let arguments = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            return arguments.split(separator: 0).contains {
                String(decoding: $0, as: UTF8.self).hasPrefix("\(folder)/")
            }
        }
    }

    /// When a process was started, in the kernel's ticks: with its id, its identity.
    private static func startTime(of pid: pid_t) -> String? {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return nil }
        // The command's name, in brackets, may hold anything; the fields after it are numbers.
        let fields = String(decoding: data, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? String(fields[19]) : nil
    }
}
