/// What keeps bytes from being text, with their place; nil for UTF-8 without NUL.
func textFault(in bytes: UnsafeBufferPointer<UInt8>) -> String? {
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
