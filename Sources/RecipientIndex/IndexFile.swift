import Glibc
import System

/// A snapshot file open for reading.
///
/// It is read with `pread(2)`, not mapped: if the file is truncated meanwhile, reading fails instead of raising SIGBUS.
struct IndexFile: ~Copyable {
    let descriptor: Int32
    /// The stamp of the file from when it was opened.
    let state: FileStamp
    /// The size in bytes when it was opened.
    var size: Int { Int(state.size) }

    /// Opens a regular file; open(2), fstat(2).
    init(path: String) throws(IndexFault) {
        // O_NONBLOCK: not to wait for the other end of a FIFO.
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
            throw IndexFault(.notAnIndex, "is not a regular file")
        }
        state = FileStamp(attributes)
    }

    deinit { close(descriptor) }

    /// Fills the buffer with the file's bytes from `offset` on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(IndexFault) {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, offset + done)
            if count > 0 {
                done += count
            } else if count == 0 {
                throw IndexFault(.changing, "became shorter while it was read: another program writes it in place")
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
        // On some file systems, a power cut leaves a file of zero bytes.
        return start == 0 || length == 8 && UInt64(littleEndian: start) == IndexFormat.magic
    }

    /// Throws if the file has changed since it was opened.
    func checkUnchanged() throws(IndexFault) {
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0, FileStamp(attributes).hasSameContent(as: state) else {
            throw IndexFault(.changing, "was changed while it was read: another program writes it in place")
        }
    }
}

/// Why a snapshot can't be used or wasn't published.
public struct IndexError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The class of a failure.
    public enum Kind: Sendable, Equatable {
        /// The file doesn't exist.
        case missing
        /// The file can't be opened or read, or there is no memory for it; the error number.
        case unreadable(Int32)
        /// The file is not a snapshot.
        case notAnIndex
        /// The snapshot has a version or a feature that this program doesn't know.
        case unsupported
        /// The file was truncated, extended or changed, or contradicts itself.
        case damaged
        /// The file was changed while it was read: another program writes it in place.
        case changing
        /// The snapshot's generation is older than that of the snapshot in use.
        case older
        /// The file can't be written, synced or renamed; the error number. The published file is the old one.
        case notPublished(Int32)
    }

    /// The class of the failure.
    public let kind: Kind
    /// The file.
    public let path: String
    /// A clause that says what is wrong, without the file's name.
    public let reason: String

    /// The path and the reason: "/var/lib/postern/recipients.index: the header's checksum is wrong: the file is
    /// damaged".
    public var description: String { "\(path): \(reason)" }

    init(_ fault: IndexFault, path: String) {
        kind = fault.kind
        self.path = path
        reason = fault.reason
    }
}

/// An ``IndexError`` before the file's name is added.
struct IndexFault: Error, Equatable {
    let kind: IndexError.Kind
    let reason: String

    init(_ kind: IndexError.Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    static func damaged(_ reason: String) -> IndexFault { IndexFault(.damaged, reason) }
}
