import Foundation
import Glibc
import Synchronization
import System

/// Finds out whether somebody is writing to a file.
///
/// It uses two ways, as neither always works. The kernel grants a lease (`fcntl(2)`, `F_SETLEASE`) only on a file that
/// nobody has open for writing, and only to the file's owner and to root. inotify(7) reports each write and the close
/// after the last one, but only while this watch exists. Neither sees other machines that write to a file of a network
/// file system.
public final class TableWatch: Sendable {
    /// What is known about writers of the file.
    enum Writing: Equatable {
        /// Somebody has the file open for writing.
        case inProgress
        /// Nobody has it open for writing: the last writer has closed it.
        case closed
        /// The file was renamed to its name, and so is whole.
        case renamed
        /// Nothing is known.
        case unknown
    }

    private struct State {
        var descriptor: Int32 = -1
        /// The names of interest in each watched folder, by the number of the watch: the path's own, and those that
        /// links lead to.
        var names: [Int32: Set<[UInt8]>] = [:]
        /// Whether the path leads to the file over links.
        var hasLinks = false
        var writing = Writing.unknown
        /// Whether a writer has closed the file, or renamed it to its name, since ``hasCome()`` was last called.
        var hasCome = false
    }

    private let path: String
    private let state = Mutex(State())

    /// Watches a file, which needn't exist.
    public init(_ path: String) {
        self.path = path
        state.withLock { Self.begin(path, &$0) }
    }

    deinit {
        state.withLock { state in
            if state.descriptor >= 0 { close(state.descriptor) }
        }
    }

    /// Whether somebody has the file open for writing, as far as that can be known.
    public var isBeingWritten: Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return writing(descriptor) == .inProgress
    }

    /// What is known about writers of the file, which is open as this descriptor.
    func writing(_ descriptor: Int32) -> Writing {
        guard !Self.isRemote(descriptor) else { return .unknown }
        let reported = reported
        switch Self.lease(descriptor) {
        case .inProgress: return .inProgress
        case .closed: return reported == .renamed ? .renamed : .closed
        default: return reported
        }
    }

    /// What inotify has reported about writers.
    var reported: Writing {
        state.withLock { state in
            Self.readEvents(path, &state)
            return state.writing
        }
    }

    /// Whether a writer has closed the file, or renamed it to its name, since the last call.
    func hasCome() -> Bool {
        state.withLock { state in
            Self.readEvents(path, &state)
            defer { state.hasCome = false }
            return state.hasCome
        }
    }

    // MARK: Leases

    // Of Linux's fcntl(2); Swift's module of the C library doesn't have them.
    private static let setSignal: Int32 = 10
    private static let setLease: Int32 = 1_024

    /// Asks the kernel for a lease, and gives it back at once.
    static func lease(_ descriptor: Int32) -> Writing {
        // The kernel sends this signal if a writer comes in this moment; the default signal would end the process.
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

    /// Reads the events that inotify has reported since the last call.
    private static func readEvents(_ path: String, _ state: inout State) {
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
                    apply(event.mask, to: &state, path: path, isAnew: &isAnew)
                }
            }
        }
        if isAnew { begin(path, &state) }
    }

    /// - Parameter isAnew: set if the folders to watch may have changed.
    private static func apply(_ mask: UInt32, to state: inout State, path: String, isAnew: inout Bool) {
        if mask & UInt32(IN_MODIFY) != 0 {
            state.writing = .inProgress
        } else if mask & UInt32(IN_CLOSE_WRITE) != 0 {
            // A file that is renamed before it is closed was written whole.
            if state.writing != .renamed { state.writing = .closed }
            state.hasCome = true
        } else if mask & UInt32(IN_MOVED_TO) != 0 {
            state.writing = .renamed
            state.hasCome = true
            // The path may now lead to another place, or may no longer be a link.
            if state.hasLinks || Self.isLink(path) { isAnew = true }
        } else {
            // A new file, about which nothing is known yet, or no file.
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

    /// Whether another machine or a program may change the file without the kernel's knowledge.
    private static func isRemote(_ descriptor: Int32) -> Bool {
        var status = stat()
        guard fstat(descriptor, &status) == 0, let kind = kind(ofDevice: UInt64(status.st_dev)) else { return false }
        return ["nfs", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs", "lustre", "gfs2", "ocfs2", "virtiofs"]
            .contains { kind == $0 || kind.hasPrefix($0 + "4") } || kind.hasPrefix("fuse")
    }

    /// The type of the file system of a device, from mountinfo in proc(5); nil if it isn't there.
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

/// Decides whether a file has settled: a file that somebody still writes to is not whole.
struct FileSettling {
    /// How long a file must stay unchanged if it isn't known whether somebody writes to it; if it has become shorter,
    /// as a writer may open it again to write the rest; and if both is the case.
    private static let unknown = Duration.seconds(2)
    private static let shorter = Duration.seconds(2)
    private static let unknownAndShorter = Duration.seconds(10)

    /// The last stamp, and since when it is the same.
    private var seen: (stamp: FileStamp, since: ContinuousClock.Instant)?

    /// Why the file isn't read yet, as a clause; nil once it may be read.
    mutating func reason(
        toWaitFor stamp: FileStamp, _ previous: FileStamp?, _ writing: TableWatch.Writing, now: Date = Date(),
        instant: ContinuousClock.Instant = .now
    ) -> String? {
        if seen?.stamp != stamp { seen = (stamp, instant) }
        if writing == .inProgress {
            return "is being written (a program has it open for writing); it is read once the writer closes it"
        }
        let isShorter = previous.map { stamp.size < $0.size } ?? false
        let needed: Duration
        switch writing {
        case .renamed: return nil
        case .unknown: needed = isShorter ? Self.unknownAndShorter : Self.unknown
        default: needed = isShorter ? Self.shorter : .zero
        }
        // By the file's own time, unless that lies in the future, or by the time that this object has seen it
        // unchanged.
        let age = Duration.seconds(now.timeIntervalSince1970 - Double(stamp.modified) / 1e9)
        if age >= needed || instant - (seen?.since ?? instant) >= needed { return nil }
        return isShorter
            ? "has just become shorter; it is read once it hasn't changed for \(needed.inSeconds)"
            : "has just changed; it is read once it hasn't changed for \(needed.inSeconds)"
    }
}
