import Foundation
import Glibc
import Synchronization

/// Tells whether somebody is writing to a file.
///
/// Two ways, as neither always works. The kernel grants a lease (fcntl(2), F_SETLEASE) only on a file that nobody has open for writing, to the
/// file's owner and to root. And inotify(7) tells of each write and of the close behind the last one, from the time on that this watch
/// exists. Neither knows of other machines that write to a file of a network file system.
public final class TableWatch: Sendable {
    /// What is known of those who write.
    enum Writing: Equatable {
        /// Somebody has the file open for writing.
        case inProgress
        /// Nobody has: the last writer has closed the file.
        case closed
        /// The file came to its name whole, by a rename.
        case renamed
        /// It can't be told.
        case unknown
    }

    private struct State {
        var descriptor: Int32 = -1
        /// The names in each folder that is watched, by the number of the watch: that of the path, and those that links lead to.
        var names: [Int32: Set<[UInt8]>] = [:]
        /// Whether links lead to the file.
        var hasLinks = false
        var writing = Writing.unknown
        /// Whether the file was closed or renamed since this was last asked.
        var hasCome = false
    }

    private let path: String
    private let state = Mutex(State())

    /// A watch for a file, which needn't exist.
    public init(_ path: String) {
        self.path = path
        state.withLock { Self.begin(path, &$0) }
    }

    deinit {
        state.withLock { state in
            if state.descriptor >= 0 { close(state.descriptor) }
        }
    }

    /// Whether somebody is known to be writing to the file.
    public var isBeingWritten: Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return writing(descriptor) == .inProgress
    }

    /// What is known of those who write to the file, which is open as this descriptor.
    func writing(_ descriptor: Int32) -> Writing {
        guard !Self.isRemote(descriptor) else { return .unknown }
        let told = told
        switch Self.lease(descriptor) {
        case .inProgress: return .inProgress
        case .closed: return told == .renamed ? .renamed : .closed
        default: return told
        }
    }

    /// What inotify has reported of the writers.
    var told: Writing {
        state.withLock { state in
            Self.takeIn(path, &state)
            return state.writing
        }
    }

    /// Whether the file was closed by a writer, or renamed, since this was last asked.
    func hasCome() -> Bool {
        state.withLock { state in
            Self.takeIn(path, &state)
            defer { state.hasCome = false }
            return state.hasCome
        }
    }

    // MARK: Leases

    // fcntl(2); these are of Linux alone.
    private static let setSignal: Int32 = 10
    private static let setLease: Int32 = 1_024

    /// Asks the kernel for a lease, and gives it back at once.
    static func lease(_ descriptor: Int32) -> Writing {
        // The signal for a writer who comes in this moment; the default one would end the process.
        guard fcntl(descriptor, setSignal, SIGURG) == 0 else { return .unknown }
        if fcntl(descriptor, setLease, Int32(F_RDLCK)) == 0 {
            _ = fcntl(descriptor, setLease, Int32(F_UNLCK))
            return .closed
        }
        return errno == EAGAIN ? .inProgress : .unknown
    }

    // MARK: inotify

    private static let events =
        UInt32(IN_MODIFY) | UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_TO) | UInt32(IN_MOVED_FROM) | UInt32(IN_CREATE)
        | UInt32(IN_DELETE)

    private static func begin(_ path: String, _ state: inout State) {
        if state.descriptor >= 0 { close(state.descriptor) }
        state = State(hasCome: state.hasCome)
        state.descriptor = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
        guard state.descriptor >= 0 else { return }
        var next = path
        // As many links as the kernel follows.
        for _ in 0..<40 {
            let url = URL(fileURLWithPath: next)
            let folder = url.deletingLastPathComponent().path
            let watch = inotify_add_watch(state.descriptor, folder, events)
            guard watch >= 0 else { return }
            state.names[watch, default: []].insert(Array(url.lastPathComponent.utf8))
            guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: next) else { return }
            state.hasLinks = true
            next = target.hasPrefix("/") ? target : folder + "/" + target
        }
    }

    /// Takes in what inotify has told since the last time.
    private static func takeIn(_ path: String, _ state: inout State) {
        guard state.descriptor >= 0 else { return }
        let size = 16 << 10
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
        defer { buffer.deallocate() }
        var isAnew = false
        while true {
            let count = read(state.descriptor, buffer.baseAddress, size)
            guard count > 0 else { break }
            var place = 0
            while place + MemoryLayout<inotify_event>.size <= count {
                let event = buffer.loadUnaligned(fromByteOffset: place, as: inotify_event.self)
                let start = place + MemoryLayout<inotify_event>.size
                let end = min(count, start + Int(event.len))
                let name = Array(UnsafeRawBufferPointer(rebasing: buffer[start..<end]).prefix { $0 != 0 })
                place = end
                if event.mask & UInt32(IN_Q_OVERFLOW) != 0 || event.mask & UInt32(IN_IGNORED) != 0 {
                    isAnew = true
                } else if state.names[event.wd]?.contains(name) == true {
                    take(event.mask, path, &state, &isAnew)
                }
            }
        }
        if isAnew { begin(path, &state) }
    }

    private static func take(_ mask: UInt32, _ path: String, _ state: inout State, _ isAnew: inout Bool) {
        if mask & UInt32(IN_MODIFY) != 0 {
            state.writing = .inProgress
        } else if mask & UInt32(IN_CLOSE_WRITE) != 0 {
            // Who renames a file before closing it has written it whole.
            if state.writing != .renamed { state.writing = .closed }
            state.hasCome = true
        } else if mask & UInt32(IN_MOVED_TO) != 0 {
            state.writing = .renamed
            state.hasCome = true
            // It may be a link to another place, or no longer one.
            if state.hasLinks || Self.isLink(path) { isAnew = true }
        } else {
            // A new file, of which nothing is known yet; or none.
            state.writing = .unknown
            if mask & UInt32(IN_CREATE) != 0 {
                state.hasCome = true
                if state.hasLinks || Self.isLink(path) { isAnew = true }
            }
        }
    }

    private static func isLink(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
    }

    // MARK: File systems

    /// Whether another machine, or a program, may change the file without the kernel's knowing it.
    private static func isRemote(_ descriptor: Int32) -> Bool {
        var status = stat()
        guard fstat(descriptor, &status) == 0, let kind = kind(ofDevice: UInt64(status.st_dev)) else { return false }
        return ["nfs", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs", "lustre", "gfs2", "ocfs2", "virtiofs"]
            .contains { kind == $0 || kind.hasPrefix($0 + "4") } || kind.hasPrefix("fuse")
    }

    /// The kind of the file system of a device, from proc(5), mountinfo; nil where that can't be told.
    private static func kind(ofDevice device: UInt64) -> String? {
        let major = (device >> 8) & 0xfff | (device >> 32) & ~0xfff
        let minor = device & 0xff | (device >> 12) & ~0xff
        guard let text = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8) else { return nil }
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 4, fields[2] == "\(major):\(minor)", let dash = fields.firstIndex(of: "-"),
                fields.indices.contains(dash + 1)
            else { continue }
            return String(fields[dash + 1])
        }
        return nil
    }
}
