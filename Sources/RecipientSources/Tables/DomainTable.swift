import Glibc
import MailAddress

/// The formats of tables in `relay.domains_from`; the format decides which entries name a domain.
public enum DomainTableFormat: String, Sendable, CaseIterable {
    /// The source text of a Postfix table (`example.com anything`), or a plain list: every left side is a domain.
    case domains
    /// Postfix's transport(5): `example.com smtp:[10.0.0.5]`. Lines of users, `*` and lines that reject mail (`error:`)
    /// name no domain.
    case transport
    /// Sendmail's access: `To:example.com RELAY` and `example.com RELAY`. Other tags, other right sides, users and
    /// networks name no domain.
    case access
    /// Sendmail's mailertable: `example.com esmtp:[10.0.0.5]`; lines that reject mail (`error:`) name no domain.
    case mailertable

    fileprivate var accepted: String {
        switch self {
        case .domains: "\"example.com\" or \".example.com\", with or without a value"
        case .transport: "\"example.com smtp:[10.0.0.5]\" or \".example.com smtp:[10.0.0.5]\""
        case .access: "\"To:example.com RELAY\""
        case .mailertable: "\"example.com esmtp:[10.0.0.5]\" or \".example.com esmtp:[10.0.0.5]\""
        }
    }

    /// Whether a line that begins with white space continues the one before, as in Postfix.
    fileprivate var hasContinuations: Bool { self == .domains || self == .transport }
}

/// The domains on the left sides of a table, for `relay.domains_from`.
///
/// Blank lines and comments (`#`) are passed over. In a Postfix table, a line that begins with white space continues
/// the line before, and so names no domain.
///
/// - Returns: A-labels in the order of the table, each once; a name that begins with a dot stands for the subdomains
///   alone.
/// - Throws: `SourceError` of kind `unreachable` if the file can't be read, `malformed` with file and line of up to
///   twenty entries that aren't domains.
public func parseDomainTable(path: String, format: DomainTableFormat = .domains) throws(SourceError) -> [String] {
    let accepted = format.accepted
    let file = try TableFile(path, source: "relay.domains_from")
    guard TableWatch.lease(file.descriptor) != .inProgress else {
        throw SourceError(
            .unreachable,
            "\(path) is being written (a program has it open for writing); it can be read once the writer closes it",
            source: "relay.domains_from")
    }
    let reader = LineReader(file.descriptor, name: path)
    if let fault = TextEncoding.utf16Fault(in: file.descriptor) {
        throw SourceError(.malformed, "\(path): \(fault)", source: "relay.domains_from")
    }
    var malformed = MalformedLines()
    var domains: [String] = []
    var seen: Set<String> = []
    var isFirst = true
    while let line = try reader.next() {
        guard let first = line.bytes.first(where: { !$0.isSpace }), first != UInt8(ascii: "#") else { continue }
        defer { isFirst = false }
        if let start = line.bytes.first, start.isSpace {
            if isFirst || !format.hasContinuations {
                malformed.add(
                    line.number,
                    "\"\(escapedASCII(line.bytes))\" begins with white space"
                        + (format.hasContinuations
                            ? ", but there is no line before to continue"
                            : ", which makemap rejects; accepted: \(accepted)")
                )
            }
            continue
        }
        if let fault = line.cut ? "an overlong line" : TextEncoding.utf8Fault(in: line.bytes) {
            malformed.add(line.number, "\(fault) of \"\(escapedASCII(line.bytes))\"; accepted: \(accepted)")
            continue
        }
        let end = line.bytes.firstIndex { $0.isSpace } ?? line.bytes.count
        guard
            let word = format.domain(line.bytes.slice(0..<end), value: line.bytes.slice(end..<line.bytes.count).trimmed)
        else { continue }
        var name = String(decoding: word, as: UTF8.self)
        let isDotted = name.hasPrefix(".")
        if isDotted { name.removeFirst() }
        if word.first == UInt8(ascii: "[") || word.contains(UInt8(ascii: "@")) {
            malformed.add(line.number, "\"\(escapedASCII(word))\" is not a domain; accepted: \(accepted)")
            continue
        }
        do throws(AddressError) {
            let domain = (isDotted ? "." : "") + (try DomainName(name)).aLabel
            if seen.insert(domain).inserted { domains.append(domain) }
        } catch {
            malformed.add(line.number, "\"\(escapedASCII(word))\" is not a domain: \(error); accepted: \(accepted)")
        }
    }
    guard malformed.count == 0 else {
        throw SourceError(.malformed, malformed.description(file: path), source: "relay.domains_from")
    }
    return domains
}

extension DomainTableFormat {
    /// Whether a route rejects mail: Postfix's error(8) and retry(8), Sendmail's error mailer.
    private static func rejects(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
        value.hasPrefixIgnoringCase("error:") || value.hasPrefixIgnoringCase("retry:")
    }

    /// The part of a left side that must be a domain; nil for an entry that doesn't name one.
    fileprivate func domain(
        _ key: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>
    ) -> UnsafeBufferPointer<UInt8>? {
        switch self {
        case .domains: return key
        case .transport, .mailertable:
            let isDefault = key.elementsEqual("*".utf8) || key.elementsEqual(".".utf8)
            return isDefault || key.contains(UInt8(ascii: "@")) || Self.rejects(value) ? nil : key
        case .access:
            guard value.equalsIgnoringCase("relay") else { return nil }
            var name = key
            if let colon = key.firstIndex(of: UInt8(ascii: ":")) {
                guard key.hasPrefixIgnoringCase("to:") else { return nil }
                name = key.slice(colon + 1..<key.count)
            }
            let isNetwork = name.allSatisfy { $0 == UInt8(ascii: ".") || (0x30...0x39).contains($0) }
            return name.contains(UInt8(ascii: "@")) || isNetwork ? nil : name
        }
    }
}
