/// Plain lists: an address a line, `#` at the line's start or after white space begins a comment.
extension TableParser {
    private static var accepted: StaticString { "one \"user@domain\", \"<user@domain>\" or \"@domain\" a line" }

    mutating func parseList(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        while let line = try reader.next() {
            let text = line.bytes.trimmed
            if !line.cut, text.isEmpty || text.first == UInt8(ascii: "#") { continue }
            countEntry()
            guard isText(line) else { continue }
            let end = wordEnd(text) ?? text.count
            let rest = text.slice(end..<text.count).trimmed
            if !rest.isEmpty, rest.first != UInt8(ascii: "#") {
                malformed.add(line.number, "\"\(printable(text))\" is more than one word; accepted: \(Self.accepted)")
                continue
            }
            let word = text.slice(0..<end)
            if word.contains(UInt8(ascii: "@")) {
                list(word, line: line.number, accepted: Self.accepted, into: sink)
            } else {
                malformed.add(line.number, "\"\(printable(word))\" has no domain; accepted: \(Self.accepted)")
            }
        }
    }
}
