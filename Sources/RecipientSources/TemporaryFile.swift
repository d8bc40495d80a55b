import Foundation
import Glibc
import System

/// Bytes kept for a moment: in memory while they are few, then in a file without a name.
///
/// The file is in the state's folder, as it holds addresses in clear. The kernel deletes it with its last descriptor,
/// however the process ends.
final class TemporaryFile {
    private static let chunk = 256 << 10

    private let folder: String
    private var pending: [UInt8] = []
    private var descriptor: Int32 = -1
    /// How many bytes have been written to the file; `pending` follows them.
    private var written = 0

    init(folder: String) {
        self.folder = folder
    }

    deinit {
        if descriptor >= 0 { Glibc.close(descriptor) }
    }

    /// How many bytes there are.
    var count: Int { written + pending.count }

    func append(_ bytes: UnsafeRawBufferPointer) throws(SourceError) {
        if pending.count + bytes.count > Self.chunk { try flush() }
        pending.append(contentsOf: bytes)
    }

    /// Copies the bytes from an offset on, as many as the buffer holds; returns how many there were.
    private func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SourceError) -> Int {
        var done = 0
        while done < buffer.count, offset + done < written {
            let wanted = min(buffer.count - done, written - offset - done)
            let got = pread(descriptor, buffer.baseAddress?.advanced(by: done), wanted, off_t(offset + done))
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                throw SourceError(.temporaryFile, "a temporary file in \(folder) can't be read: \(systemMessage())")
            }
            done += got
        }
        let start = offset + done - written
        if done < buffer.count, start >= 0, start < pending.count {
            let amount = min(buffer.count - done, pending.count - start)
            pending.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + amount])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + amount]))
            }
            done += amount
        }
        return done
    }

    private func flush() throws(SourceError) {
        if descriptor < 0 { descriptor = try Self.open(in: folder) }
        let failure = pending.withUnsafeBytes { Self.write($0, to: descriptor, in: folder) }
        if let failure { throw failure }
        written += pending.count
        pending.removeAll(keepingCapacity: true)
    }

    /// Writes bytes to the end of a file from ``open(in:)``; returns the error, as closures of the standard library
    /// can't throw it.
    static func write(_ bytes: UnsafeRawBufferPointer, to file: Int32, in folder: String) -> SourceError? {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let code = errno
                return SourceError(
                    .temporaryFile, "a temporary file in \(folder) can't be written: \(systemMessage(code))",
                    advice: FileAdvice.text(code, path: folder + "/"))
            }
            done += count
        }
        return nil
    }

    /// A file without a name, for reading and writing; the caller closes it.
    static func open(in folder: String) throws(SourceError) -> Int32 {
        var reason = ""
        // A dry run may have no right to write to the folder of the state.
        for place in [folder, NSTemporaryDirectory()] {
            // O_TMPFILE, which Swift's module of the C library doesn't have: without a name, nobody can open the file.
            var descriptor = Glibc.open(place, 0o20000000 | O_DIRECTORY | O_RDWR | O_EXCL | O_CLOEXEC, 0o600)
            if descriptor >= 0 { return descriptor }
            // For file systems without it.
            var template = Array((place + "/.postern-XXXXXX").utf8CString)
            descriptor = mkstemp(&template)
            if descriptor >= 0 {
                unlink(template)
                _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
                return descriptor
            }
            if reason.isEmpty { reason = systemMessage() }
        }
        throw SourceError(
            .temporaryFile, "no temporary file can be created in \(folder): \(reason)",
            advice: "make \(folder) exist and writable for the filter's user")
    }

    /// Reads a range of the file from its beginning to its end.
    final class Reader {
        private let file: TemporaryFile
        private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
        /// The unread bytes of the buffer.
        private var start = 0
        private var end = 0
        /// Where in the file the buffer ends, and where the range ends.
        private var offset: Int
        private let limit: Int

        init(_ file: TemporaryFile, _ range: Range<Int>) {
            self.file = file
            offset = range.lowerBound
            limit = range.upperBound
        }

        deinit {
            buffer.deallocate()
        }

        var atEnd: Bool { start == end && offset >= limit }

        /// The next bytes, at most as many as the buffer holds (64 KiB); valid until the next call.
        func next(_ count: Int) throws(SourceError) -> UnsafeRawBufferPointer {
            if end - start < count {
                let rest = UnsafeRawBufferPointer(rebasing: buffer[start..<end])
                buffer.copyMemory(from: rest)
                (start, end) = (0, rest.count)
                let room = min(buffer.count - end, limit - offset)
                let got = try file.read(
                    at: offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[end..<end + room]))
                end += got
                offset += got
                guard end >= count else {
                    throw SourceError(.temporaryFile, "a temporary file in \(file.folder) ended early")
                }
            }
            defer { start += count }
            return UnsafeRawBufferPointer(rebasing: buffer[start..<start + count])
        }
    }
}
