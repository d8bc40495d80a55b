import Foundation
import Glibc
import System

/// Bytes put aside for a moment, in memory while they are few, then in a file without a name in the state's folder (they are
/// addresses in clear) that is gone with its last descriptor, whatever ends the process.
package final class SpillFile {
    private static let chunk = 256 << 10

    private let folder: String
    private var pending: [UInt8] = []
    private var descriptor: Int32 = -1
    /// What has been written to the file; `pending` follows it.
    private var written = 0

    package init(folder: String) {
        self.folder = folder
    }

    deinit {
        if descriptor >= 0 { Glibc.close(descriptor) }
    }

    package var count: Int { written + pending.count }

    package func append(_ bytes: UnsafeRawBufferPointer) throws(SourceError) {
        if pending.count + bytes.count > Self.chunk { try flush() }
        pending.append(contentsOf: bytes)
    }

    /// Copies up to as many bytes as the buffer takes from an offset; returns how many there were.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SourceError) -> Int {
        var done = 0
        while done < buffer.count, offset + done < written {
            let wanted = min(buffer.count - done, written - offset - done)
            let got = pread(descriptor, buffer.baseAddress?.advanced(by: done), wanted, off_t(offset + done))
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                throw SourceError(.temporaryFile, "can't read a temporary file back: \(systemMessage())")
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
        var done = 0
        while done < pending.count {
            let wrote = pending.withUnsafeBytes { bytes in
                pwrite(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(written + done))
            }
            if wrote < 0, errno == EINTR { continue }
            guard wrote > 0 else {
                let code = errno
                throw SourceError(
                    .temporaryFile, "can't write a temporary file in \(folder): \(systemMessage(code))",
                    advice: FileAdvice.text(code, path: folder + "/"))
            }
            done += wrote
        }
        written += pending.count
        pending.removeAll(keepingCapacity: true)
    }

    /// A file without a name, for reading and writing; the caller closes it.
    static func open(in folder: String) throws(SourceError) -> Int32 {
        var reason = ""
        // A dry run may not be allowed to write where the state lies.
        for place in [folder, NSTemporaryDirectory()] {
            // O_TMPFILE, the bit of which Swift's module of the C library doesn't have: no name that anybody could meddle with.
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
            .temporaryFile, "can't create a temporary file in \(folder): \(reason)",
            advice: "see to \(folder): the filter's user writes there")
    }
}

/// Reads a part of a spill file from its start to its end.
package final class SpillReader {
    private let file: SpillFile
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    /// The unread bytes of the buffer.
    private var start = 0
    private var end = 0
    /// Where in the file the buffer ends, and where the part ends.
    private var offset: Int
    private let limit: Int

    package init(_ file: SpillFile, _ range: Range<Int>) {
        self.file = file
        offset = range.lowerBound
        limit = range.upperBound
    }

    deinit {
        buffer.deallocate()
    }

    package var atEnd: Bool { start == end && offset >= limit }

    /// The next bytes, at most as many as the buffer takes (64 KiB); good until the next call.
    package func next(_ count: Int) throws(SourceError) -> UnsafeRawBufferPointer {
        if end - start < count {
            let rest = UnsafeRawBufferPointer(rebasing: buffer[start..<end])
            buffer.copyMemory(from: rest)
            (start, end) = (0, rest.count)
            let room = min(buffer.count - end, limit - offset)
            let got = try file.read(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[end..<end + room]))
            end += got
            offset += got
            guard end >= count else { throw SourceError(.temporaryFile, "a temporary file ended early") }
        }
        defer { start += count }
        return UnsafeRawBufferPointer(rebasing: buffer[start..<start + count])
    }
}
