import Glibc

/// Tells a text in UTF-16, as some Windows programs write it, from one in UTF-8.
enum UTF16Check {
    /// The fault of a file that is text in UTF-16; nil for any other. Its place in the file stays.
    static func fault(in descriptor: Int32) -> String? {
        var start: InlineArray<64, UInt8> = InlineArray(repeating: 0)
        var span = start.mutableSpan
        let count = span.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        guard count >= 2 else { return nil }
        let isMarked = start[0] == 0xff && start[1] == 0xfe || start[0] == 0xfe && start[1] == 0xff
        // Letters of ASCII have a NUL beside each, before or behind.
        func isInterleaved(_ first: Int) -> Bool {
            stride(from: first, to: count, by: 2).allSatisfy { start[$0] == 0 }
                && stride(from: 1 - first, to: count, by: 2).allSatisfy { start[$0] != 0 }
        }
        guard isMarked || count >= 4 && (isInterleaved(0) || isInterleaved(1)) else { return nil }
        return "the file is text in UTF-16; accepted is UTF-8, as iconv -f UTF-16 -t UTF-8 makes it"
    }
}
