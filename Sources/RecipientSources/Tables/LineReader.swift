import Glibc
import System

/// Reads the lines of an open file from front to back in bounded memory. It reads rather than maps: a file that is
/// truncated under a mapping would end the process.
final class LineReader {
    /// A line without its line feed, valid until the next one is read.
    struct Line {
        var bytes: UnsafeBufferPointer<UInt8>
        /// The line's number, from 1.
        var number: Int
        /// Whether the line is longer than `longestLine`; `bytes` is its beginning.
        var cut: Bool
    }

    /// The longest line in bytes, so that a file of zeros doesn't fill the memory.
    static let longestLine = 1 << 20

    let descriptor: Int32
    let name: String
    private let check: () throws(SourceError) -> Void
    private var buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 256 << 10)
    private var start = 0
    private var end = 0
    private var number = 0
    private var ended = false

    /// - Parameters:
    ///   - descriptor: an open file, which the caller closes.
    ///   - name: the file's name in messages.
    ///   - check: called for each chunk; throws to end the reading.
    init(
        _ descriptor: Int32, name: String,
        check: @escaping () throws(SourceError) -> Void = { () throws(SourceError) in }
    ) {
        self.descriptor = descriptor
        self.name = name
        self.check = check
    }

    deinit {
        buffer.deallocate()
    }

    func next() throws(SourceError) -> Line? {
        var searched = start
        while true {
            if let feed = lineFeed(from: searched) {
                let found = line(start..<feed, cut: false)
                start = feed + 1
                return found
            }
            searched = end
            if ended {
                guard start < end else { return nil }
                defer { start = end }
                return line(start..<end, cut: false)
            }
            if end - start >= Self.longestLine { return try cutLine() }
            let moved = start
            try fill()
            searched -= moved - start
        }
    }

    private func line(_ range: Range<Int>, cut: Bool) -> Line {
        number += 1
        var range = range
        // Editors of other systems write a byte order mark; before a later line it shows that two files were joined.
        if range.count >= 3, buffer[range.lowerBound] == 0xef, buffer[range.lowerBound + 1] == 0xbb,
            buffer[range.lowerBound + 2] == 0xbf
        {
            range = range.lowerBound + 3..<range.upperBound
        }
        return Line(bytes: UnsafeBufferPointer(rebasing: buffer[range]), number: number, cut: cut)
    }

    /// The beginning of an overlong line; passes over its end.
    private func cutLine() throws(SourceError) -> Line {
        let keep = 256
        let beginning = line(start..<start + keep, cut: true)
        start += keep
        // The kept bytes stay in the buffer for the caller; the rest is read behind them.
        while true {
            if let feed = lineFeed(from: start) {
                start = feed + 1
                return beginning
            }
            end = start
            if ended { return beginning }
            try fill(sliding: false)
        }
    }

    private func lineFeed(from index: Int) -> Int? {
        guard let base = buffer.baseAddress, index < end, let found = memchr(base + index, 0x0a, end - index) else {
            return nil
        }
        return UnsafeRawPointer(base).distance(to: UnsafeRawPointer(found))
    }

    private func fill(sliding: Bool = true) throws(SourceError) {
        try check()
        if sliding, start > 0, let base = buffer.baseAddress {
            memmove(base, base + start, end - start)
            end -= start
            start = 0
        }
        if end == buffer.count {
            let larger = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: buffer.count * 2)
            _ = larger.update(fromContentsOf: buffer)
            buffer.deallocate()
            buffer = larger
        }
        while true {
            let got = Glibc.read(descriptor, buffer.baseAddress?.advanced(by: end), buffer.count - end)
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw SourceError(.unreachable, "\(name) can't be read: \(systemMessage())") }
            if got == 0 { ended = true }
            end += got
            return
        }
    }
}

/// A regular file that is open for reading, with its stamp from before the first read.
final class TableFile {
    let descriptor: Int32
    let stamp: FileStamp
    private let path: String

    init(_ path: String, source: String) throws(SourceError) {
        self.path = path
        // Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw .unreachable(source: source, "\(path) can't be opened: \(systemMessage())")
        }
        var status = Glibc.stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            let kind = status.st_mode & S_IFMT == S_IFDIR ? "a directory" : "not a regular file"
            Glibc.close(descriptor)
            throw .unreachable(source: source, "\(path) is \(kind); accepted: a table in source text")
        }
        stamp = FileStamp(status)
    }

    deinit {
        Glibc.close(descriptor)
    }

    /// Whether the path still names this file and nobody has changed it since it was opened.
    var isUnchanged: Bool {
        FileStamp(descriptor: descriptor) == stamp && FileStamp(path: path) == stamp
    }
}

/// Finds out whether a text of unknown origin is UTF-8.
public enum TextEncoding {
    /// How many bytes of a text's beginning show whether it is UTF-16.
    public static let sampleSize = 64

    /// Whether a text that begins with these bytes is UTF-16, as some Windows programs write it: with a byte order
    /// mark, or of ASCII letters with a NUL beside each.
    public static func isUTF16(_ start: some RandomAccessCollection<UInt8>) -> Bool {
        let start = start.prefix(sampleSize)
        if start.starts(with: [0xff, 0xfe]) || start.starts(with: [0xfe, 0xff]) { return true }
        func isInterleaved(_ first: Int) -> Bool {
            start.enumerated().allSatisfy { ($0.element == 0) == ($0.offset % 2 == first) }
        }
        return start.count >= 4 && (isInterleaved(0) || isInterleaved(1))
    }

    /// The fault of a file whose text is UTF-16; nil for any other file. Doesn't move the file's position.
    static func utf16Fault(in descriptor: Int32) -> String? {
        let start = [UInt8](unsafeUninitializedCapacity: sampleSize) { buffer, count in
            count = max(0, pread(descriptor, buffer.baseAddress, buffer.count, 0))
        }
        guard isUTF16(start) else { return nil }
        return "the file is UTF-16; accepted: UTF-8; convert it with iconv -f UTF-16 -t UTF-8"
    }

    /// The first fault of bytes that aren't UTF-8 without NUL, with its column; nil for text.
    static func utf8Fault(in bytes: UnsafeBufferPointer<UInt8>) -> String? {
        var index = 0
        let count = bytes.count
        while index < count {
            let byte = bytes[index]
            if byte < 0x80 {
                if byte == 0 { return "a NUL byte in column \(index + 1)" }
                index += 1
                continue
            }
            // RFC 3629, section 4: no overlong forms, no surrogates, nothing past U+10FFFF.
            let length: Int
            var second: ClosedRange<UInt8> = 0x80...0xbf
            switch byte {
            case 0xc2...0xdf: length = 2
            case 0xe0: (length, second) = (3, 0xa0...0xbf)
            case 0xed: (length, second) = (3, 0x80...0x9f)
            case 0xe1...0xef: length = 3
            case 0xf0: (length, second) = (4, 0x90...0xbf)
            case 0xf4: (length, second) = (4, 0x80...0x8f)
            case 0xf1...0xf3: length = 4
            default: length = 0
            }
            guard length > 0, count - index >= length, second.contains(bytes[index + 1]),
                bytes[(index + 2)..<(index + length)].allSatisfy({ $0 & 0xc0 == 0x80 })
            else {
                return "the byte 0x\(String(byte, radix: 16)) in column \(index + 1), which isn't UTF-8"
            }
            index += length
        }
        return nil
    }
}
