import Foundation
import Glibc
import Synchronization

/// The folder of this run, removed at its end.
enum Scratch {
    private static let folder = Mutex("")

    static var root: String { folder.withLock { $0 } }

    /// Makes the folder, and removes those of runs that were killed.
    static func make() throws {
        let base = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []
        where name.hasPrefix("postern-bench.") {
            removeLeftover("\(base)/\(name)")
        }
        var template = Array("\(base)/postern-bench.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failure("\(base): a folder can't be made there") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // Postfix's user must be able to enter it.
        chmod(path, 0o755)
        try write("\(getpid())\n", to: "\(path)/owner")
        folder.withLock { $0 = path }
    }

    /// Removes a folder of this user if its run has ended.
    private static func removeLeftover(_ path: String) {
        var status = stat()
        // Others can write below /tmp, too.
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid(),
            let text = try? String(contentsOfFile: "\(path)/owner", encoding: .utf8),
            let pid = pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)), kill(pid, 0) != 0, errno == ESRCH
        else { return }
        try? FileManager.default.removeItem(atPath: path)
    }

    /// A folder for sockets, not below a folder that everybody may write to.
    static var sockets: String { "/run/postern-bench.\(getpid())" }

    static func remove() {
        let path = root
        if !path.isEmpty { try? FileManager.default.removeItem(atPath: path) }
        try? FileManager.default.removeItem(atPath: sockets)
    }

    static func path(_ name: String) -> String { "\(root)/\(name)" }

    /// Makes an empty folder in it.
    static func folder(_ name: String, mode: mode_t = 0o755) throws -> String {
        let path = path(name)
        try? FileManager.default.removeItem(atPath: path)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        chmod(path, mode)
        return path
    }

    @discardableResult static func write(_ text: String, to path: String, mode: mode_t = 0o644) throws -> String {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, mode)
        return path
    }

    /// Writes a large file in pieces.
    static func write(to path: String, count: Int, head: String = "", _ piece: (Int) -> String) throws {
        guard let file = fopen(path, "w") else { throw Failure("\(path) can't be written") }
        defer { fclose(file) }
        fputs(head, file)
        for number in 0..<count { fputs(piece(number), file) }
        guard fflush(file) == 0, ferror(file) == 0 else { throw Failure("\(path) can't be written completely") }
    }

    static func tail(of path: String) -> String {
        String(((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").suffix(2_000))
    }
}

/// TCP ports of the loopback address.
enum Ports {
    /// A port on which no process listens, below the range that the kernel uses for outgoing connections.
    static func unused() throws -> UInt16 {
        for _ in 0..<200 {
            let port = UInt16.random(in: 20_000..<32_000)
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            guard descriptor >= 0 else { break }
            defer { close(descriptor) }
            if withAddress("127.0.0.1", port, { bind(descriptor, $0, $1) }) == 0 { return port }
        }
        throw Failure("no unused TCP port on 127.0.0.1")
    }

    /// Whether the unix socket exists.
    static func exists(_ socket: String) -> Bool { access(socket, W_OK) == 0 }

    static func answers(_ port: UInt16, at host: String = "127.0.0.1") -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return withAddress(host, port) { connect(descriptor, $0, $1) } == 0
    }

    static func withAddress<R>(
        _ host: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> R
    ) rethrows -> R {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        inet_pton(AF_INET, host, &name.sin_addr)
        return try withUnsafePointer(to: &name) {
            try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
