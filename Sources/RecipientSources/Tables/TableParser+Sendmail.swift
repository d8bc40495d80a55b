import Glibc
import MailAddress
import RecipientIndex

/// The source text of Sendmail's access and virtusertable: makemap(8), and "virtusertable" and "access_db" in
/// cf/README.
extension TableParser {
    private static var accepted: StaticString { "\"user@domain value\", \"@domain value\", \"To:user@domain OK\"" }

    /// The facts about a whole table that the meaning of its entries depends on.
    struct SendmailTable {
        /// Whether the table is `access`: an entry has a tag.
        var isAccess = false
        /// The recipients that an entry with the tag `To:` rejects, whatever an entry without a tag says.
        var rejected: Set<String> = []
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
                    line.number, "\"\(escapedASCII(line.bytes))\" begins with white space, which makemap rejects")
                continue
            }
            let end = line.bytes.firstIndex { $0.isSpace } ?? line.bytes.count
            let key = line.bytes.slice(0..<end)
            let value = line.bytes.slice(end..<line.bytes.count).trimmed
            if value.isEmpty {
                malformed.add(
                    line.number, "\"\(escapedASCII(key))\" has no right side; accepted: \(Self.accepted)")
            } else {
                sendmailEntry(key, value, in: table, line: line.number, into: sink)
            }
        }
    }

    /// Reads the table once from the file's position, which is restored.
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
            guard key.hasPrefixIgnoringCase("to:"), meaning(of: value, inAccess: true) == .rejected,
                let address = try? RecipientAddress(path: key.slice(3..<key.count)), address.hasDomain
            else { continue }
            table.rejected.insert(address.key)
        }
        return table
    }

    private mutating func sendmailEntry(
        _ key: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, in table: SendmailTable, line: Int,
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
        if Self.meaning(of: value, inAccess: table.isAccess) == .rejected {
            skipped.refusing += 1
            // A rejected domain is simply not listed.
            guard at > 0, at < name.count - 1, !isWildcard else { return }
            list(name, .disabled, value: value, line: line, accepted: Self.accepted, into: sink)
        } else if at == name.count - 1 {
            skipped.withoutDomain += 1
        } else if isWildcard {
            listWildcard(name, at: at, line: line, into: sink)
        } else if name.count == key.count, !table.rejected.isEmpty, let address = try? RecipientAddress(path: name),
            table.rejected.contains(address.key)
        {
            skipped.refusing += 1
        } else {
            list(name, value: value, line: line, accepted: Self.accepted, into: sink)
        }
    }

    /// `user+*@domain` and `user++@domain` accept any detail: the user is listed, as the filter looks up addresses
    /// without their detail, too.
    private mutating func listWildcard(_ name: UnsafeBufferPointer<UInt8>, at: Int, line: Int, into sink: Sink) {
        guard at > 2 else {
            skipped.wildcards += 1
            return
        }
        let plain = Array(name[..<(at - 2)]) + Array(name[at...])
        plain.withUnsafeBufferPointer { list($0, line: line, accepted: Self.accepted, into: sink) }
    }

    private enum Meaning {
        case listed, rejected
    }

    /// The meaning of a right side for Sendmail.
    ///
    /// In `access`, any text but a few words is an error (ruleset `Rcpt_ok` of cf/m4/proto.m4). In `virtusertable`, an
    /// error has `error:` before it, and other texts are addresses. A table without tags may be either, so `550 text`,
    /// an error of old `access` tables, is an error, too.
    private static func meaning(of value: UnsafeBufferPointer<UInt8>, inAccess: Bool) -> Meaning {
        if inAccess {
            let isAccepted =
                ["ok", "relay", "discard"].contains { value.equalsIgnoringCase($0) }
                || value.hasPrefixIgnoringCase("quarantine:")
            return isAccepted ? .listed : .rejected
        }
        if value.equalsIgnoringCase("reject") || value.equalsIgnoringCase("skip")
            || value.hasPrefixIgnoringCase("error:")
        {
            return .rejected
        }
        // A reply code and text, perhaps in quotes.
        let text = value.first == UInt8(ascii: "\"") ? value.slice(1..<value.count) : value
        guard text.count > 3, text[0] == UInt8(ascii: "4") || text[0] == UInt8(ascii: "5"), text[3].isSpace else {
            return .listed
        }
        let isCode = text[1...2].allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return isCode ? .rejected : .listed
    }
}
