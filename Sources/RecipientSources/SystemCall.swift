import Glibc

/// Text of unknown origin made fit for one line of a log: at most 60 characters, nothing unprintable.
func printable(_ bytes: some Sequence<UInt8>) -> String {
    var shown = ""
    var rest = bytes.makeIterator()
    var count = 0
    while let byte = rest.next() {
        if count == 60 { return shown + "…" }
        count += 1
        if (0x20..<0x7f).contains(byte), byte != 0x5c {
            shown.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            shown += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    return shown
}

extension UInt8 {
    /// isspace(3) in the C locale.
    var isSpace: Bool { self == 0x20 || (self >= 0x09 && self <= 0x0d) }
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a range that lies within the buffer.
    package func slice(_ range: Range<Int>) -> UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(rebasing: self[range]) }

    /// memcmp(3) with the shorter one first among equals.
    package func precedes(_ other: UnsafeBufferPointer<UInt8>) -> Bool { compare(other) < 0 }

    /// Less than, equal to or greater than zero as memcmp(3); the shorter comes first among equals.
    package func compare(_ other: UnsafeBufferPointer<UInt8>) -> Int {
        if let mine = baseAddress, let theirs = other.baseAddress {
            let order = memcmp(mine, theirs, Swift.min(count, other.count))
            if order != 0 { return Int(order) }
        }
        return count - other.count
    }

    /// Without white space at both ends.
    var trimmed: UnsafeBufferPointer<UInt8> {
        var start = 0
        var end = count
        while start < end, self[start].isSpace { start += 1 }
        while end > start, self[end - 1].isSpace { end -= 1 }
        return slice(start..<end)
    }

    /// Whether the ASCII text is this one, whatever its case; the text must be in lower case.
    func equalsIgnoringCase(_ text: StaticString) -> Bool {
        count == text.utf8CodeUnitCount && hasPrefixIgnoringCase(text)
    }

    /// Whether it begins with this ASCII text, whatever its case; the text must be in lower case.
    func hasPrefixIgnoringCase(_ text: StaticString) -> Bool {
        guard count >= text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount {
            var byte = self[index]
            if byte >= 0x41, byte <= 0x5a { byte |= 0x20 }
            if byte != text.utf8Start[index] { return false }
        }
        return true
    }
}
