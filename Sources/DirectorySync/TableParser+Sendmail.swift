/// The source text of Sendmail's access and virtusertable: makemap(8), and "virtusertable" and "access_db" in cf/README.
extension TableParser {
    private static var accepted: StaticString { "\"user@domain value\", \"@domain value\", \"To:user@domain OK\"" }

    mutating func parseSendmail(_ reader: LineReader, into sink: Sink) throws(SyncError) {
        while let line = try reader.next() {
            let first = line.bytes.first { !$0.isSpace }
            if !line.cut, first == nil || first == UInt8(ascii: "#") { continue }
            countEntry()
            guard isText(line) else { continue }
            if let byte = line.bytes.first, byte.isSpace {
                malformed.add(
                    line.number, "\"\(printable(line.bytes))\" begins with white space, which makemap refuses")
                continue
            }
            let end = line.bytes.firstIndex { $0.isSpace } ?? line.bytes.count
            let key = line.bytes.slice(0..<end)
            let value = line.bytes.slice(end..<line.bytes.count).trimmed
            if value.isEmpty {
                malformed.add(
                    line.number, "\"\(printable(key))\" without a right side; accepted: \(Self.accepted)")
            } else {
                sendmailEntry(key, value, line: line.number, into: sink)
            }
        }
    }

    private mutating func sendmailEntry(
        _ key: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, line: Int, into sink: Sink
    ) {
        var name = key
        // Tags of the access table: letters up to a colon. IPv6 addresses without one have digits or a second colon.
        if let colon = key.firstIndex(of: UInt8(ascii: ":")),
            !key[..<colon].contains(where: { $0 == UInt8(ascii: "@") || $0 == UInt8(ascii: "\"") })
        {
            guard key.hasPrefixIgnoringCase("to:") else {
                skipped.otherTags += 1
                return
            }
            name = key.slice(colon + 1..<key.count)
        }
        guard let at = name.lastIndex(of: UInt8(ascii: "@")) else {
            if name.contains(UInt8(ascii: ".")) { skipped.domains += 1 } else { skipped.withoutDomain += 1 }
            return
        }
        if Self.refuses(value) {
            skipped.refusing += 1
        } else if at == name.count - 1 {
            skipped.withoutDomain += 1
        } else if at >= 2, name[at - 2] == UInt8(ascii: "+"),
            [UInt8(ascii: "*"), UInt8(ascii: "+")].contains(name[at - 1])
        {
            listWildcard(name, at: at, line: line, into: sink)
        } else {
            list(name, line: line, accepted: Self.accepted, into: sink)
        }
    }

    /// `user+*@domain` and `user++@domain` take any detail: the user is listed, whose details the filter takes off.
    private mutating func listWildcard(_ name: UnsafeBufferPointer<UInt8>, at: Int, line: Int, into sink: Sink) {
        guard at > 2 else {
            skipped.wildcards += 1
            return
        }
        let plain = Array(name[..<(at - 2)]) + Array(name[at...])
        plain.withUnsafeBufferPointer { list($0, line: line, accepted: Self.accepted, into: sink) }
    }

    /// Whether a right side says that there is no such recipient.
    private static func refuses(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
        if value.equalsIgnoringCase("reject") || value.equalsIgnoringCase("discard") || value.equalsIgnoringCase("skip")
            || value.hasPrefixIgnoringCase("error:") || value.hasPrefixIgnoringCase("discard:")
        {
            return true
        }
        // The old form of an error: a reply code and text, perhaps in quotes.
        let text = value.first == UInt8(ascii: "\"") ? value.slice(1..<value.count) : value
        guard text.count > 3, text[0] == UInt8(ascii: "4") || text[0] == UInt8(ascii: "5"), text[3].isSpace else {
            return false
        }
        return text[1...2].allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
}
