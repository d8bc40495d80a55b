import Glibc

/// Tells a text in UTF-16, as some Windows programs write it, from one in UTF-8.
public enum UTF16Check {
    /// How many bytes of a text's beginning are looked at, at most.
    public static let sampleSize = 64

    /// Whether a text that begins with these bytes is in UTF-16: with a byte order mark, or of letters with a NUL beside each.
    public static func isUTF16(_ start: some RandomAccessCollection<UInt8>) -> Bool {
        let start = start.prefix(sampleSize)
        if start.starts(with: [0xff, 0xfe]) || start.starts(with: [0xfe, 0xff]) { return true }
        // Letters of ASCII have a NUL before or behind them.
        func isInterleaved(_ first: Int) -> Bool {
            start.enumerated().allSatisfy { ($0.element == 0) == ($0.offset % 2 == first) }
        }
        return start.count >= 4 && (isInterleaved(0) || isInterleaved(1))
    }

    /// The fault of a file that is text in UTF-16; nil for any other. Its place in the file stays.
    static func fault(in descriptor: Int32) -> String? {
        let start = [UInt8](unsafeUninitializedCapacity: sampleSize) { buffer, count in
            count = max(0, pread(descriptor, buffer.baseAddress, buffer.count, 0))
        }
        guard isUTF16(start) else { return nil }
        return "the file is text in UTF-16; accepted is UTF-8, as iconv -f UTF-16 -t UTF-8 makes it"
    }
}
