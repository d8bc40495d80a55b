import Glibc
import MailAddress

/// The domains that a table lists on its left sides, as `relay.domains_from` takes them: source text of a Postfix table
/// (`example.com anything`) or a plain list.
///
/// Blank lines and lines whose first character that isn't white space is `#` are passed over; a line that begins with white
/// space continues the one before, and so lists nothing.
///
/// - Returns: A-labels in the order of the table, each once; a name that begins with a dot stands for the subdomains alone.
/// - Throws: `SyncError` of kind `unreachable` if the file can't be read, `malformed` with file and line of up to twenty
///   entries that aren't domains.
public func parseDomainTable(path: String) throws(SyncError) -> [String] {
    let accepted = "\"example.com\" or \".example.com\", and a value behind it or none"
    let file = try TableFile(path, source: "relay.domains_from")
    guard TableWatch.lease(file.descriptor) != .inProgress else {
        throw SyncError(
            .unreachable,
            "\(path) is being written: somebody has it open for writing; it can be read once the writer closes it",
            source: "relay.domains_from")
    }
    let reader = LineReader(file.descriptor, name: path)
    if let fault = try reader.encodingFault() {
        throw SyncError(.malformed, "\(path): \(fault)", source: "relay.domains_from")
    }
    var malformed = MalformedLines()
    var domains: [String] = []
    var seen: Set<String> = []
    while let line = try reader.next() {
        guard let first = line.bytes.first(where: { !$0.isSpace }), first != UInt8(ascii: "#") else { continue }
        if let start = line.bytes.first, start.isSpace {
            if domains.isEmpty, malformed.count == 0 {
                malformed.add(
                    line.number, "\"\(printable(line.bytes))\" begins with white space, with no line before to continue"
                )
            }
            continue
        }
        if let fault = line.cut ? "an overlong line" : textFault(in: line.bytes) {
            malformed.add(line.number, "\(fault) of \"\(printable(line.bytes))\"; accepted: \(accepted)")
            continue
        }
        let word = line.bytes.slice(0..<(line.bytes.firstIndex { $0.isSpace } ?? line.bytes.count))
        var name = String(decoding: word, as: UTF8.self)
        let isDotted = name.hasPrefix(".")
        if isDotted { name.removeFirst() }
        if word.first == UInt8(ascii: "[") || word.contains(UInt8(ascii: "@")) {
            malformed.add(line.number, "\"\(printable(word))\" is not a domain; accepted: \(accepted)")
            continue
        }
        do throws(AddressError) {
            let domain = (isDotted ? "." : "") + (try DomainName(name)).aLabel
            if seen.insert(domain).inserted { domains.append(domain) }
        } catch {
            malformed.add(line.number, "\"\(printable(word))\" is not a domain: \(error); accepted: \(accepted)")
        }
    }
    guard malformed.count == 0 else {
        throw SyncError(.malformed, malformed.description(file: path), source: "relay.domains_from")
    }
    return domains
}
