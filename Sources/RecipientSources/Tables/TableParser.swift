import MailAddress
import RecipientIndex

/// Takes the recipients out of a table in source text.
struct TableParser {
    /// What one entry of a table says of a recipient or of a whole domain. The bytes are borrowed for the call.
    struct Listing {
        /// `user@domain` or `@domain`, canonical.
        var key: UnsafeBufferPointer<UInt8>
        var domain: UnsafeBufferPointer<UInt8>
        /// `catchAll` for a domain; `disabled` for a recipient that the table refuses.
        var flags: RecipientFlags
        /// The line that it begins in.
        var line: Int
        /// The right side without the white space around it; empty in a plain list.
        var value: UnsafeBufferPointer<UInt8>
    }

    typealias Sink = (Listing) -> Void

    let format: TableFormat
    /// How many entries were met, of any kind.
    private(set) var entries = 0
    var skipped = SkippedEntries()
    var malformed = MalformedLines()
    /// Entries that list nobody though they seem meant to.
    private(set) var faults = EntryFaults()
    /// The catch-all key being built: `@` and the domain.
    private var catchAllKey: [UInt8] = []

    init(_ format: TableFormat) {
        self.format = format
    }

    /// Reads to the end of the file, also past malformed lines, so that all of them can be named at once.
    mutating func parse(_ reader: LineReader, into sink: Sink) throws(SourceError) {
        if let fault = UTF16Check.fault(in: reader.descriptor) {
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

    /// The domain that a right side of an `@alias` entry names as the one whose recipients the alias has: `@main.example` in a
    /// Postfix table, `%1@main.example` in Sendmail's virtusertable. Nil for every other right side, which is that of a
    /// catch-all.
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

    /// Whether a line is short enough and text; else it is noted.
    mutating func isText(_ line: LineReader.Line) -> Bool {
        if line.cut {
            malformed.add(line.number, "a line longer than \(LineReader.longestLine) bytes")
            return false
        }
        if let fault = textFault(in: line.bytes) {
            malformed.add(line.number, "\(fault) of \"\(printable(line.bytes))\"; accepted is text in UTF-8")
            return false
        }
        return true
    }

    /// Lists `user@domain` or `@domain`; what nobody can reach is passed over and named.
    ///
    /// - Parameter flags: those of a recipient; a domain is listed as one that takes all.
    mutating func list(
        _ name: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags = [],
        value: UnsafeBufferPointer<UInt8> = .init(start: nil, count: 0), line: Int, accepted: StaticString,
        into sink: Sink
    ) {
        switch EntryJudge.judge(name) {
        case .recipient(let address):
            address.withKey { key in
                address.withDomain { domain in
                    sink(Listing(key: key, domain: domain, flags: flags, line: line, value: value))
                }
            }
        case .catchAll(let domain): listCatchAll(domain, value: value, line: line, into: sink)
        case .withoutDomain: skipped.withoutDomain += 1
        // It is refused, so that nobody is to reach it.
        case .otherProtocol where flags.contains(.disabled): break
        case .unreachable where flags.contains(.disabled): break
        case .otherProtocol(let kind):
            passOver(name, line: line, "it is an address of the kind \(kind); accepted: SMTP addresses")
        case .unreachable(let reason): passOver(name, line: line, reason)
        case .malformed(let reason):
            malformed.add(line, "\"\(printable(name))\" is not an address: \(reason); accepted: \(accepted)")
        }
    }

    private mutating func passOver(_ name: UnsafeBufferPointer<UInt8>, line: Int, _ reason: String) {
        skipped.unreachable += 1
        faults.note(EntryFault(place: "line \(line)", value: legible(name), reason: reason))
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
