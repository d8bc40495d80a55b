import MailAddress
import RecipientIndex

/// The syntax of a table in source text.
public enum TableFormat: String, Sendable, Codable, CaseIterable {
    /// The input of postmap(1): `user@domain value`, `@domain value`, continuation lines, quoted keys.
    case postfix
    /// The input of makemap(8) for access and virtusertable.
    case sendmail
    /// One address a line.
    case list
}

/// Reads the recipients from a table in source text.
struct TableParser {
    /// A recipient or a whole domain that an entry of a table lists. The bytes are borrowed for the call.
    struct Listing {
        /// `user@domain` or `@domain`, canonical.
        var key: UnsafeBufferPointer<UInt8>
        var domain: UnsafeBufferPointer<UInt8>
        /// `catchAll` for a domain; `disabled` for a recipient that the table rejects.
        var flags: RecipientFlags
        /// The first line of the entry.
        var line: Int
        /// The right side without the white space around it; empty in a plain list.
        var value: UnsafeBufferPointer<UInt8>
    }

    typealias Sink = (Listing) -> Void

    let format: TableFormat
    /// How many entries were read, of any kind.
    private(set) var entries = 0
    var skipped = SkippedEntries()
    var malformed = MalformedLines()
    /// Entries that seem meant to list a recipient, and don't.
    private(set) var faults = EntryFaults()
    /// The catch-all key being built: `@` and the domain.
    private var catchAllKey: [UInt8] = []

    init(_ format: TableFormat) {
        self.format = format
    }

    /// Reads to the end of the file, past malformed lines, so that all of them can be reported at once.
    mutating func parse(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        if let fault = TextEncoding.utf16Fault(in: reader.descriptor) {
            countEntry()
            malformed.add(1, fault)
            return
        }
        switch format {
        case .postfix: try parsePostfix(reader, into: sink)
        case .sendmail: try parseSendmail(reader, into: sink)
        case .list: try parseList(reader, into: sink)
        }
    }

    /// The domain whose recipients an `@alias` entry with this right side has: `@main.example` in a Postfix table,
    /// `%1@main.example` in Sendmail's virtusertable. Nil for any other right side, which makes the entry a catch-all.
    static func aliasTarget(_ value: UnsafeBufferPointer<UInt8>, _ format: TableFormat) -> String? {
        let forms: [StaticString] =
            switch format {
            case .postfix: ["@"]
            // %3 is the detail with its delimiter.
            case .sendmail: ["%1@", "%1%3@"]
            case .list: []
            }
        for form in forms {
            let length = form.utf8CodeUnitCount
            guard form.withUTF8Buffer({ value.starts(with: $0) }) else { continue }
            let name = value.slice(length..<value.count)
            guard !name.contains(where: { $0.isSpace || $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "@") }) else {
                return nil
            }
            return try? DomainName(String(decoding: name, as: UTF8.self)).aLabel
        }
        return nil
    }

    mutating func countEntry() {
        entries += 1
    }

    /// Whether a line is text and not too long; if not, it is noted as malformed.
    mutating func isText(_ line: LineReader.Line) -> Bool {
        if line.cut {
            malformed.add(line.number, "a line longer than \(LineReader.longestLine) bytes")
            return false
        }
        if let fault = TextEncoding.utf8Fault(in: line.bytes) {
            malformed.add(line.number, "\(fault) of \"\(escapedASCII(line.bytes))\"; accepted: text in UTF-8")
            return false
        }
        return true
    }

    /// Lists `user@domain` or `@domain`; notes an address that can't be reached as a fault.
    ///
    /// - Parameter flags: the flags of a recipient; a domain is listed as a catch-all.
    mutating func list(
        _ name: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags = [],
        value: UnsafeBufferPointer<UInt8> = .init(start: nil, count: 0), line: Int, accepted: StaticString,
        into sink: Sink
    ) {
        switch EntryValue(name) {
        case .recipient(let address):
            address.withKey { key in
                address.withDomain { domain in
                    sink(Listing(key: key, domain: domain, flags: flags, line: line, value: value))
                }
            }
        case .catchAll(let domain): listCatchAll(domain, value: value, line: line, into: sink)
        case .withoutDomain: skipped.withoutDomain += 1
        // The table rejects the address, which nobody can reach anyway.
        case .otherProtocol where flags.contains(.disabled): break
        case .unreachable where flags.contains(.disabled): break
        case .otherProtocol(let kind):
            passOver(name, line: line, "it is an address of the kind \(kind); accepted: SMTP addresses")
        case .unreachable(let reason): passOver(name, line: line, reason)
        case .malformed(let reason):
            malformed.add(line, "\"\(escapedASCII(name))\" is not an address: \(reason); accepted: \(accepted)")
        }
    }

    private mutating func passOver(_ name: UnsafeBufferPointer<UInt8>, line: Int, _ reason: String) {
        skipped.unreachable += 1
        faults.note(EntryFault(place: "line \(line)", value: escapedText(name), reason: reason))
    }

    private mutating func listCatchAll(
        _ domain: String, value: UnsafeBufferPointer<UInt8>, line: Int, into sink: Sink
    ) {
        catchAllKey.removeAll(keepingCapacity: true)
        catchAllKey.append(UInt8(ascii: "@"))
        catchAllKey.append(contentsOf: domain.utf8)
        catchAllKey.withUnsafeBufferPointer { key in
            sink(Listing(key: key, domain: key.slice(1..<key.count), flags: .catchAll, line: line, value: value))
        }
    }
}

/// Plain lists: an address a line; `#` at the beginning of a line or after white space begins a comment.
extension TableParser {
    private static var acceptedInLists: StaticString { "one \"user@domain\", \"<user@domain>\" or \"@domain\" a line" }

    private mutating func parseList(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        while let line = try reader.next() {
            let text = line.bytes.trimmed
            if !line.cut, text.isEmpty || text.first == UInt8(ascii: "#") { continue }
            countEntry()
            guard isText(line) else { continue }
            let end = wordEnd(text) ?? text.count
            let rest = text.slice(end..<text.count).trimmed
            if !rest.isEmpty, rest.first != UInt8(ascii: "#") {
                malformed.add(
                    line.number, "\"\(escapedASCII(text))\" is more than one word; accepted: \(Self.acceptedInLists)")
                continue
            }
            let word = text.slice(0..<end)
            if word.contains(UInt8(ascii: "@")) {
                list(word, line: line.number, accepted: Self.acceptedInLists, into: sink)
            } else {
                malformed.add(line.number, "\"\(escapedASCII(word))\" has no domain; accepted: \(Self.acceptedInLists)")
            }
        }
    }
}

/// The malformed lines of a table: all are counted, the first twenty kept.
struct MalformedLines {
    static let kept = 20

    private(set) var count = 0
    private(set) var lines: [(number: Int, text: String)] = []

    mutating func add(_ number: Int, _ text: @autoclosure () -> String) {
        count += 1
        if lines.count < Self.kept { lines.append((number, text())) }
    }

    /// A text line for each malformed line: `/etc/postfix/virtual:17: the fault; accepted: …`.
    func description(file: String) -> String {
        var text = lines.map { "\(file):\($0.number): \($0.text)" }
        if count > lines.count { text.append("\(file): \(count - lines.count) more malformed lines") }
        return text.joined(separator: "\n")
    }
}

/// The source text of a Postfix table: "INPUT FILE FORMAT" in postmap(1). Lines are joined as in Postfix's readlline.c.
extension TableParser {
    /// A logical line, joined from physical lines.
    private struct LogicalLine {
        /// The most bytes that are kept: keys are much shorter, and the end of a long value doesn't matter.
        static let longest = 64 << 10

        var bytes: [UInt8] = []
        /// The number of its first physical line; 0 before the first.
        var number = 0
        /// Whether a part of it was malformed, which has been noted.
        var isBad = false

        mutating func append(_ more: UnsafeBufferPointer<UInt8>) {
            bytes.append(contentsOf: more.prefix(Self.longest - Swift.min(bytes.count, Self.longest)))
        }
    }

    private static var acceptedInPostfix: StaticString { "\"user@domain value\", \"@domain value\"" }

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
            malformed.add(line, "\"\(escapedASCII(key))\" has no value; accepted: \(Self.acceptedInPostfix)")
            return
        }
        if key.last == UInt8(ascii: ":") {
            malformed.add(
                line,
                "\"\(escapedASCII(key))\" ends with a colon as in an alias file; accepted: \(Self.acceptedInPostfix)")
        } else if key.last == UInt8(ascii: "\"") {
            // A quoted local part, which may have an @ in it.
            skipped.withoutDomain += 1
        } else if key.contains(UInt8(ascii: "@")) {
            if key.first == UInt8(ascii: "<") {
                malformed.add(line, "\"\(escapedASCII(key))\" has angle brackets; accepted: \(Self.acceptedInPostfix)")
            } else {
                list(
                    key, value: bytes.slice(end..<bytes.count).trimmed, line: line, accepted: Self.acceptedInPostfix,
                    into: sink)
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
