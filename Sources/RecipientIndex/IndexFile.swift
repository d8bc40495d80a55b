import Glibc
import System

/// A snapshot file opened for reading; closes it in the end.
///
/// It is read with pread(2), never through a mapping: cutting it off meanwhile causes an error here, not a SIGBUS.
struct IndexFile: ~Copyable {
    let descriptor: Int32
    /// What the file was when it was opened.
    let state: FileStamp
    /// The size in bytes when it was opened.
    var size: Int { Int(state.size) }

    /// Opens a regular file; open(2), fstat(2).
    init(path: String) throws(IndexFault) {
        // Not to wait for the other end of a FIFO.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            let code = errno
            throw IndexFault(
                code == ENOENT ? .missing : .unreadable(code),
                code == ENOENT ? "there is no such file" : "can't be opened: \(systemMessage(code))")
        }
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0 else {
            let code = errno
            close(descriptor)
            throw IndexFault(.unreadable(code), "can't be examined: \(systemMessage(code))")
        }
        guard attributes.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw IndexFault(.notAnIndex, "is no regular file")
        }
        state = FileStamp(attributes)
    }

    deinit { close(descriptor) }

    /// Fills the buffer with the bytes from `offset` on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(IndexFault) {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, offset + done)
            if count > 0 {
                done += count
            } else if count == 0 {
                throw IndexFault(.changing, "became shorter while it was read: someone is writing it in place")
            } else if errno != EINTR {
                let code = errno
                throw IndexFault(.unreadable(code), "can't be read: \(systemMessage(code))")
            }
        }
    }

    /// Whether the file is empty or begins as a snapshot does.
    func isReplaceable() throws(IndexFault) -> Bool {
        var start: UInt64 = 0
        let length = min(size, 8)
        try withUnsafeMutableBytes(of: &start) { bytes throws(IndexFault) in
            try read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<length]), at: 0)
        }
        // Nothing but zeros is what a power cut leaves on some file systems.
        return start == 0 || length == 8 && UInt64(littleEndian: start) == IndexFormat.magic
    }

    /// Throws when the file isn't the one that was opened any more.
    func checkUnchanged() throws(IndexFault) {
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0, FileStamp(attributes).hasSameContent(as: state) else {
            throw IndexFault(.changing, "was changed while it was read: someone is writing it in place")
        }
    }
}

/// Why a snapshot can't be used or wasn't published: a sentence that names the file.
public struct IndexError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Kind: Sendable, Equatable {
        /// No file has this name.
        case missing
        /// The system refused to open or read it, or had no memory for it; its errno.
        case unreadable(Int32)
        /// It is something else than a snapshot.
        case notAnIndex
        /// It is a snapshot of a version or with a feature that this program doesn't know.
        case unsupported
        /// It is cut off, has been added to or changed, or contradicts itself.
        case damaged
        /// It was changed while it was read: someone writes it in place.
        case changing
        /// Its generation is older than that of the snapshot in use.
        case older
        /// The system refused to write, sync or rename it; its errno. The published file is the old one.
        case notPublished(Int32)
    }

    /// What kind of failure it is.
    public let kind: Kind
    /// The file.
    public let path: String
    /// What is wrong, without the file's name.
    public let reason: String

    /// "/var/lib/postern/recipients.index: the header's checksum is wrong: the file is damaged".
    public var description: String { "\(path): \(reason)" }

    init(_ fault: IndexFault, path: String) {
        kind = fault.kind
        self.path = path
        reason = fault.reason
    }
}

/// An ``IndexError`` where the file's name isn't known yet.
struct IndexFault: Error, Equatable {
    let kind: IndexError.Kind
    let reason: String

    init(_ kind: IndexError.Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    static func damaged(_ reason: String) -> IndexFault { IndexFault(.damaged, reason) }
}
