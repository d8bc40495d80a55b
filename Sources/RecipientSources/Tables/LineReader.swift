import Glibc
import System

/// Reads the lines of an open file from front to back in bounded memory. It reads rather than maps: a file that is
/// truncated under a mapping would end the process.
final class LineReader {
    /// A line without its line feed, good until the next one is read.
    struct Line {
        var bytes: UnsafeBufferPointer<UInt8>
        /// Its number, from 1.
        var number: Int
        /// Whether it went on past `longestLine`; `bytes` is its beginning.
        var cut: Bool
    }

    /// More than any table needs; without a limit a file of zeros would fill the memory.
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
    ///   - descriptor: open for reading; stays the caller's.
    ///   - name: for messages.
    ///   - check: called for each chunk; throws to give up.
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
                let line = take(start..<feed, cut: false)
                start = feed + 1
                return line
            }
            searched = end
            if ended {
                guard start < end else { return nil }
                let line = take(start..<end, cut: false)
                start = end
                return line
            }
            if end - start >= Self.longestLine { return try cutLine() }
            let moved = start
            try fill()
            searched -= moved - start
        }
    }

    private func take(_ range: Range<Int>, cut: Bool) -> Line {
        number += 1
        var range = range
        // A byte order mark, as editors of other systems leave it; before another line, where two files were joined.
        if range.count >= 3, buffer[range.lowerBound] == 0xef, buffer[range.lowerBound + 1] == 0xbb,
            buffer[range.lowerBound + 2] == 0xbf
        {
            range = range.lowerBound + 3..<range.upperBound
        }
        return Line(bytes: UnsafeBufferPointer(rebasing: buffer[range]), number: number, cut: cut)
    }

    /// Gives the beginning of an overlong line and passes over its end.
    private func cutLine() throws(SourceError) -> Line {
        let keep = 256
        let line = take(start..<start + keep, cut: true)
        start += keep
        // The rest goes behind the kept bytes, which the caller has yet to see.
        while true {
            if let feed = lineFeed(from: start) {
                start = feed + 1
                return line
            }
            end = start
            if ended { return line }
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
