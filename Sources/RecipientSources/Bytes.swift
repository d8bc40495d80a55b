import Glibc

extension UInt8 {
    /// Whether the byte is white space: `isspace(3)` in the C locale.
    var isSpace: Bool { self == 0x20 || (self >= 0x09 && self <= 0x0d) }
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a range that lies within the buffer.
    package func slice(_ range: Range<Int>) -> UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(rebasing: self[range]) }

    /// Whether these bytes come before others in the order of ``compare(_:)``.
    package func precedes(_ other: UnsafeBufferPointer<UInt8>) -> Bool { compare(other) < 0 }

    /// Less than, equal to or greater than zero in the order of `memcmp(3)`, in which a prefix comes before the longer
    /// bytes.
    package func compare(_ other: UnsafeBufferPointer<UInt8>) -> Int {
        if let mine = baseAddress, let theirs = other.baseAddress {
            let order = memcmp(mine, theirs, Swift.min(count, other.count))
            if order != 0 { return Int(order) }
        }
        return count - other.count
    }

    /// The bytes without white space at both ends.
    var trimmed: UnsafeBufferPointer<UInt8> {
        var start = 0
        var end = count
        while start < end, self[start].isSpace { start += 1 }
        while end > start, self[end - 1].isSpace { end -= 1 }
        return slice(start..<end)
    }

    /// Whether the bytes are this ASCII text in lower case, whatever their own case.
    func equalsIgnoringCase(_ text: StaticString) -> Bool {
        count == text.utf8CodeUnitCount && hasPrefixIgnoringCase(text)
    }

    /// Whether the bytes are this ASCII text in lower case, whatever their own case.
    func equalsIgnoringCase(_ text: [UInt8]) -> Bool {
        count == text.count && text.withUnsafeBufferPointer { hasPrefix(lowercased: $0) }
    }

    /// Whether the bytes begin with this ASCII text in lower case, whatever their own case.
    func hasPrefixIgnoringCase(_ text: StaticString) -> Bool { text.withUTF8Buffer { hasPrefix(lowercased: $0) } }

    private func hasPrefix(lowercased text: UnsafeBufferPointer<UInt8>) -> Bool {
        guard count >= text.count else { return false }
        for index in 0..<text.count {
            let byte = self[index]
            guard (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte) == text[index] else { return false }
        }
        return true
    }
}

/// A byte as two hexadecimal digits.
func hexadecimal(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

/// The first 60 bytes of a text of unknown origin, fit for one line of a log: bytes that aren't printable ASCII are
/// escaped as `\xNN`.
func escapedASCII(_ bytes: some Sequence<UInt8>) -> String {
    var shown = ""
    for (count, byte) in bytes.enumerated() {
        if count == 60 { return shown + "…" }
        if (0x20..<0x7f).contains(byte), byte != 0x5c {
            shown.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            shown += "\\x" + hexadecimal(byte)
        }
    }
    return shown
}

/// The first 200 characters of a text of unknown origin, fit for one line of a log: invisible characters are escaped as
/// `\u{NN}`.
func escapedText(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars.prefix(200) {
        let isShown: Bool
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
            isShown = false
        case .spaceSeparator: isShown = scalar == " "
        default: isShown = !scalar.properties.isDefaultIgnorableCodePoint && scalar != "\\"
        }
        if isShown {
            shown.unicodeScalars.append(scalar)
        } else {
            shown += scalar == "\\" ? "\\\\" : "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
        }
    }
    return text.unicodeScalars.count > 200 ? shown + "…" : shown
}

/// The first 200 characters of bytes of unknown origin, fit for one line of a log; see ``escapedText(_:)-(String)``.
func escapedText(_ bytes: some Sequence<UInt8>) -> String { escapedText(String(decoding: Array(bytes), as: UTF8.self)) }
