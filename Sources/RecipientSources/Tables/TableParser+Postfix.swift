/// The source text of a Postfix table: "INPUT FILE FORMAT" in postmap(1). Lines are joined as in Postfix's readlline.c.
extension TableParser {
    /// A logical line, joined from physical lines.
    private struct LogicalLine {
        /// The most bytes that are kept: keys are much shorter, and the end of a long value doesn't matter.
        static let longest = 64 << 10

        var bytes: [UInt8] = []
        /// Its first line; 0 while there is none.
        var number = 0
        /// Whether a part of it was malformed, which has been noted.
        var isBad = false

        mutating func append(_ more: UnsafeBufferPointer<UInt8>) {
            bytes.append(contentsOf: more.prefix(Self.longest - Swift.min(bytes.count, Self.longest)))
        }
    }

    private static var accepted: StaticString { "\"user@domain value\", \"@domain value\"" }

    mutating func parsePostfix(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        var logical = LogicalLine()
        logical.bytes.reserveCapacity(1_024)
        while let line = try reader.next() {
            let first = line.bytes.first { !$0.isSpace }
            // Blank lines and comments don't end a logical line; a comment needn't be text.
            if !line.cut, first == nil || first == UInt8(ascii: "#") { continue }
            if let byte = line.bytes.first, byte.isSpace {
                if logical.number == 0 {
                    countEntry()
                    malformed.add(
                        line.number,
                        "\"\(escapedASCII(line.bytes))\" begins with white space, but there is no line before to continue"
                    )
                } else if !isText(line) {
                    logical.isBad = true
                } else {
                    logical.append(line.bytes)
                }
                continue
            }
            finish(&logical, into: sink)
            logical.number = line.number
            logical.isBad = !isText(line)
            logical.append(line.bytes)
        }
        finish(&logical, into: sink)
    }

    private mutating func finish(_ logical: inout LogicalLine, into sink: Sink) {
        guard logical.number > 0 else { return }
        countEntry()
        if !logical.isBad {
            logical.bytes.withUnsafeBufferPointer { bytes in postfixEntry(bytes, line: logical.number, into: sink) }
        }
        logical.bytes.removeAll(keepingCapacity: true)
    }

    private mutating func postfixEntry(_ bytes: UnsafeBufferPointer<UInt8>, line: Int, into sink: Sink) {
        guard let end = wordEnd(bytes) else {
            malformed.add(line, "a quote without a closing quote in \"\(escapedASCII(bytes))\"")
            return
        }
        let key = bytes.slice(0..<end)
        guard bytes[end...].contains(where: { !$0.isSpace }) else {
            malformed.add(line, "\"\(escapedASCII(key))\" has no value; accepted: \(Self.accepted)")
            return
        }
        if key.last == UInt8(ascii: ":") {
            malformed.add(
                line, "\"\(escapedASCII(key))\" ends with a colon as in an alias file; accepted: \(Self.accepted)")
        } else if key.last == UInt8(ascii: "\"") {
            // A quoted local part, which may have an @ in it.
            skipped.withoutDomain += 1
        } else if key.contains(UInt8(ascii: "@")) {
            if key.first == UInt8(ascii: "<") {
                malformed.add(line, "\"\(escapedASCII(key))\" has angle brackets; accepted: \(Self.accepted)")
            } else {
                list(
                    key, value: bytes.slice(end..<bytes.count).trimmed, line: line, accepted: Self.accepted, into: sink)
            }
        } else if key.contains(UInt8(ascii: ".")), key.first != UInt8(ascii: "\"") {
            skipped.domains += 1
        } else {
            skipped.withoutDomain += 1
        }
    }

    /// The position of the first white space outside of quotes, or the end; nil if a quote doesn't end.
    func wordEnd(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        var quoted = false
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\\") {
                index += 1
            } else if byte == UInt8(ascii: "\"") {
                quoted.toggle()
            } else if !quoted, byte.isSpace {
                return index
            }
            index += 1
        }
        return quoted ? nil : bytes.count
    }
}
