import Glibc

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

    /// The fault of a file whose text is UTF-16; nil for any other file. Its position stays.
    static func utf16Fault(in descriptor: Int32) -> String? {
        let start = [UInt8](unsafeUninitializedCapacity: sampleSize) { buffer, count in
            count = max(0, pread(descriptor, buffer.baseAddress, buffer.count, 0))
        }
        guard isUTF16(start) else { return nil }
        return "the file is UTF-16; accepted is UTF-8, as iconv -f UTF-16 -t UTF-8 makes it"
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
