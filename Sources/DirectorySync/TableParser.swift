import MailAddress
import RecipientIndex

/// Takes the recipients out of a table in source text.
struct TableParser {
    /// Called for each recipient with its key, its domain, its flags and its line; the bytes are borrowed for the call.
    typealias Sink = (
        _ key: UnsafeBufferPointer<UInt8>, _ domain: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags, _ line: Int
    ) -> Void

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
    mutating func parse(_ reader: LineReader, into sink: Sink) throws(SyncError) {
        if let fault = try reader.encodingFault() {
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
    mutating func list(_ name: UnsafeBufferPointer<UInt8>, line: Int, accepted: StaticString, into sink: Sink) {
        switch EntryJudge.judge(name) {
        case .recipient(let address):
            address.withKey { key in
                address.withDomain { domain in sink(key, domain, [], line) }
            }
        case .catchAll(let domain): listCatchAll(domain, line: line, into: sink)
        case .withoutDomain: skipped.withoutDomain += 1
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

    private mutating func listCatchAll(_ domain: String, line: Int, into sink: Sink) {
        catchAllKey.removeAll(keepingCapacity: true)
        catchAllKey.append(UInt8(ascii: "@"))
        catchAllKey.append(contentsOf: domain.utf8)
        catchAllKey.withUnsafeBufferPointer { key in
            sink(key, key.slice(1..<key.count), .catchAll, line)
        }
    }
}
