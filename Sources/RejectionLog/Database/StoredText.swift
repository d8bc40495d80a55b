/// Text as it goes into the database: the client's octets if they are UTF-8 without NUL, else with the odd octets written
/// as `\xNN`.
enum StoredText {
    static func string(_ bytes: UnsafeRawBufferPointer) -> String {
        if !isPlain(bytes) { return escaped(bytes) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// True if the octets can be stored as they are.
    static func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var all: UInt8 = 0
        for byte in bytes {
            if byte == 0 { return false }
            all |= byte
        }
        return all < 0x80 || String(validating: bytes, as: UTF8.self) != nil
    }

    static func escaped(_ bytes: UnsafeRawBufferPointer) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case 0, 0x80...: text += "\\x" + Self.hex(byte)
            default: text.unicodeScalars.append(Unicode.Scalar(byte))
            }
        }
        return text
    }

    static func hex(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16)
        return digits.count < 2 ? "0" + digits : digits
    }
}
