import Glibc
import MailAddress
import RecipientIndex

/// The source text of Sendmail's access and virtusertable: makemap(8), and "virtusertable" and "access_db" in cf/README.
extension TableParser {
    private static var accepted: StaticString { "\"user@domain value\", \"@domain value\", \"To:user@domain OK\"" }

    /// What must be known of a whole table before an entry of it can be understood.
    struct SendmailTable {
        /// Whether it is `access`, of which some entry has a tag.
        var isAccess = false
        /// The recipients that an entry with the tag `To:` refuses, which holds over an entry without a tag.
        var refused: Set<String> = []
    }

    mutating func parseSendmail(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        let table = try Self.survey(reader)
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
                sendmailEntry(key, value, table, line: line.number, into: sink)
            }
        }
    }

    /// Reads the table once from where the reader stands, and leaves the file there again.
    private static func survey(_ reader: LineReader) throws(SourceError) -> SendmailTable {
        let start = lseek(reader.descriptor, 0, SEEK_CUR)
        guard start >= 0 else { return SendmailTable() }
        defer { lseek(reader.descriptor, start, SEEK_SET) }
        var table = SendmailTable()
        let lines = LineReader(reader.descriptor, name: reader.name)
        while let line = try lines.next() {
            guard !line.cut, let end = line.bytes.firstIndex(where: \.isSpace), end > 0 else { continue }
            let key = line.bytes.slice(0..<end)
            let tags: [StaticString] = ["to:", "from:", "connect:", "spam:"]
            guard tags.contains(where: { key.hasPrefixIgnoringCase($0) }) else { continue }
            table.isAccess = true
            let value = line.bytes.slice(end..<line.bytes.count).trimmed
            guard key.hasPrefixIgnoringCase("to:"), meaning(of: value, inAccess: true) == .refused,
                let address = try? RecipientAddress(path: key.slice(3..<key.count)), address.hasDomain
            else { continue }
            table.refused.insert(address.key)
        }
        return table
    }

    private mutating func sendmailEntry(
        _ key: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, _ table: SendmailTable, line: Int,
        into sink: Sink
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
        let isWildcard =
            at >= 2 && name[at - 2] == UInt8(ascii: "+")
            && [UInt8(ascii: "*"), UInt8(ascii: "+")].contains(name[at - 1])
        if Self.meaning(of: value, inAccess: table.isAccess) == .refused {
            skipped.refusing += 1
            // A domain that is refused as a whole is one that isn't listed.
            guard at > 0, at < name.count - 1, !isWildcard else { return }
            list(name, .disabled, value: value, line: line, accepted: Self.accepted, into: sink)
        } else if at == name.count - 1 {
            skipped.withoutDomain += 1
        } else if isWildcard {
            listWildcard(name, at: at, line: line, into: sink)
        } else if name.count == key.count, !table.refused.isEmpty, let address = try? RecipientAddress(path: name),
            table.refused.contains(address.key)
        {
            skipped.refusing += 1
        } else {
            list(name, value: value, line: line, accepted: Self.accepted, into: sink)
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

    private enum Meaning {
        case listed, refused
    }

    /// What Sendmail makes of a right side.
    ///
    /// In `access` all but a few words is the text of an error (ruleset `Rcpt_ok` of cf/m4/proto.m4). In `virtusertable` it is an
    /// address, or an error with `error:` before it. A table without tags may be either: its old-style errors, `550 text`, are
    /// taken for errors too.
    private static func meaning(of value: UnsafeBufferPointer<UInt8>, inAccess: Bool) -> Meaning {
        if inAccess {
            let isAccepted =
                ["ok", "relay", "discard"].contains { value.equalsIgnoringCase($0) }
                || value.hasPrefixIgnoringCase("quarantine:")
            return isAccepted ? .listed : .refused
        }
        if value.equalsIgnoringCase("reject") || value.equalsIgnoringCase("skip")
            || value.hasPrefixIgnoringCase("error:")
        {
            return .refused
        }
        // A reply code and text, perhaps in quotes.
        let text = value.first == UInt8(ascii: "\"") ? value.slice(1..<value.count) : value
        guard text.count > 3, text[0] == UInt8(ascii: "4") || text[0] == UInt8(ascii: "5"), text[3].isSpace else {
            return .listed
        }
        let isCode = text[1...2].allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return isCode ? .refused : .listed
    }
}
