import Foundation

/// Lines of a mail's header.
enum MailHeader {
    /// A field with any text, folded: as it is where it is printable ASCII, else in encoded words (RFC 2047).
    static func line(_ name: String, _ text: String) -> String {
        // A text that looks like an encoded word would be decoded.
        let isPlain = text.utf8.allSatisfy { (0x20...0x7E).contains($0) } && !text.contains("=?")
        let words = isPlain ? text.split(separator: " ").map(String.init) : encodedWords(text)
        var lines = ["\(name):"]
        for word in words {
            let line = lines[lines.count - 1]
            if line.utf8.count + 1 + word.utf8.count > 76, line.utf8.count > name.utf8.count + 1 {
                lines.append(" \(word)")
            } else {
                lines[lines.count - 1] = "\(line) \(word)"
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Encoded words of at most 63 octets, each with whole characters.
    private static func encodedWords(_ text: String) -> [String] {
        var words: [String] = []
        var bytes: [UInt8] = []
        func end() {
            if !bytes.isEmpty { words.append("=?utf-8?B?\(Data(bytes).base64EncodedString())?=") }
            bytes = []
        }
        for scalar in text.unicodeScalars {
            let next = Array(String(scalar).utf8)
            if bytes.count + next.count > 39 { end() }
            bytes += next
        }
        end()
        return words
    }
}

/// Text in the quoted-printable encoding (RFC 2045, section 6.7).
enum QuotedPrintable {
    /// The encoded text, its lines ending with a line feed.
    static func encoded(_ text: String) -> String {
        text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .map { line(Array($0)) }.joined(separator: "\n")
    }

    private static func line(_ bytes: [UInt8]) -> String {
        var lines = ""
        var length = 0
        for (place, byte) in bytes.enumerated() {
            let isLast = place == bytes.count - 1
            let code: String
            switch byte {
            // A dot at the beginning ends a mail to some programs, and From begins one.
            case UInt8(ascii: ".") where length == 0, UInt8(ascii: "F") where length == 0: code = octet(byte)
            case UInt8(ascii: "="): code = octet(byte)
            case 0x21...0x7E: code = String(Unicode.Scalar(byte))
            case 0x20 where !isLast, 0x09 where !isLast: code = String(Unicode.Scalar(byte))
            default: code = octet(byte)
            }
            if length + code.utf8.count > (isLast ? 76 : 75) {
                lines += "=\n"
                length = 0
            }
            lines += code
            length += code.utf8.count
        }
        return lines
    }

    private static func octet(_ byte: UInt8) -> String { "=" + StoredText.hex(byte).uppercased() }
}
