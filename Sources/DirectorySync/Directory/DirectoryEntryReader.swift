import MailAddress
import RecipientIndex

/// Takes the recipients out of a directory's entries.
final class DirectoryEntryReader {
    private let configuration: DirectoryConfiguration
    /// The source's place.
    private let index: Int
    private let intake: EntryIntake
    private let excluded: [DistinguishedName]
    /// Names of attributes in lower case, without options.
    private let recipientNames: [[UInt8]]
    private let internalOnlyName: [UInt8]?
    private let disabledName: [UInt8]?
    private let idName: [UInt8]
    /// The values of the entry at hand that may be recipients; they lie in its message.
    private var values: [UnsafeBufferPointer<UInt8>] = []

    /// What is left out, and why.
    private(set) var counts: SourceReport

    /// Gets the values from a number on of an attribute that the server has sent in part.
    typealias Rest = (_ attribute: String, _ dn: String, _ first: Int) throws(LDAPError) -> [[UInt8]]

    init(_ configuration: DirectoryConfiguration, index: Int, into intake: EntryIntake, counts: SourceReport) {
        self.configuration = configuration
        self.index = index
        self.intake = intake
        self.counts = counts
        excluded = configuration.excludedBases.compactMap(DistinguishedName.init)
        recipientNames = configuration.attributes.map(Self.folded)
        internalOnlyName = configuration.internalOnly.map { Self.folded($0.attribute) }
        disabledName =
            configuration.disabledTreatment == .include ? nil : configuration.disabled.map { Self.folded($0.attribute) }
        idName = Self.folded(Self.idAttribute(configuration))
    }

    /// The attribute whose sixteen octets name an entry.
    static func idAttribute(_ configuration: DirectoryConfiguration) -> String {
        configuration.dialect == .activeDirectory ? "objectGUID" : "entryUUID"
    }

    /// What to ask for of each entry.
    ///
    /// - Parameter names: whether what names the entry is to be among it, rather than coming beside it.
    static func attributes(_ configuration: DirectoryConfiguration, names: Bool = true) -> [String] {
        var wanted = configuration.attributes
        if let condition = configuration.internalOnly { wanted.append(condition.attribute) }
        if let condition = configuration.disabled, configuration.disabledTreatment != .include {
            wanted.append(condition.attribute)
        }
        if names { wanted.append(idAttribute(configuration)) }
        return wanted
    }

    /// Lists the recipients of an entry.
    ///
    /// - Parameters:
    ///   - id: the sixteen octets that name it, where they came beside it.
    ///   - prefix: tells the source's search bases apart.
    func read(
        _ message: LDAPMessage, id: [UInt8]? = nil, prefix: UInt8 = 0, tag: Int, rest: Rest
    ) throws(LDAPError) {
        counts.read += 1
        if !excluded.isEmpty, let name = DistinguishedName(message.dn), excluded.contains(where: name.isWithin) {
            counts.skipped.excluded += 1
            return
        }
        let facts = try look(message, id)
        if facts.isDisabled, configuration.disabledTreatment == .exclude {
            counts.skipped.disabled += 1
            return
        }
        var flags: RecipientFlags = facts.isInternalOnly ? .internalOnly : []
        if facts.isDisabled { flags.insert(.disabled) }
        let object = facts.id.map { [prefix] + $0 } ?? []
        for value in values { list(value, object, flags, tag, message) }
        for range in facts.ranges {
            for value in try rest(range.attribute, message.dn, range.next) {
                value.withUnsafeBufferPointer { list($0, object, flags, tag, message) }
            }
        }
    }

    /// What is known of an entry before its recipients are listed.
    private struct Facts {
        var id: [UInt8]?
        var isInternalOnly = false
        var isDisabled = false
        /// The attributes that have more values than the server sent, and the number of the next.
        var ranges: [(attribute: String, next: Int)] = []
    }

    private func look(_ message: LDAPMessage, _ id: [UInt8]?) throws(LDAPError) -> Facts {
        var facts = Facts(id: id)
        values.removeAll(keepingCapacity: true)
        try message.forEachAttribute { attribute, found in
            let semicolon = attribute.firstIndex(of: UInt8(ascii: ";"))
            let name = attribute.slice(0..<(semicolon ?? attribute.count))
            if recipientNames.contains(where: name.isFolded) {
                values.append(contentsOf: found)
                if semicolon != nil, let range = Self.range(attribute) { facts.ranges.append(range) }
            }
            if let wanted = internalOnlyName, name.isFolded(wanted), let condition = configuration.internalOnly {
                facts.isInternalOnly = found.contains(where: condition.holds)
            }
            if let wanted = disabledName, name.isFolded(wanted), let condition = configuration.disabled {
                facts.isDisabled = found.contains(where: condition.holds)
            }
            if facts.id == nil, name.isFolded(idName) { facts.id = found.first { _ in true }.flatMap(Self.id) }
        }
        return facts
    }

    private static func folded(_ name: String) -> [UInt8] {
        Array(name.lowercased().utf8.prefix { $0 != UInt8(ascii: ";") })
    }

    /// The number behind the last value of `proxyAddresses;range=0-1499`; nil for a whole attribute, or the last part of one
    /// (MS-ADTS section 3.1.1.3.1.3.3).
    static func range(_ attribute: UnsafeBufferPointer<UInt8>) -> (attribute: String, next: Int)? {
        let parts = String(decoding: attribute, as: UTF8.self).split(separator: ";")
        guard let option = parts.dropFirst().first(where: { $0.lowercased().hasPrefix("range=") }),
            let dash = option.firstIndex(of: "-"), let last = Int(option[option.index(after: dash)...]),
            (0..<Int(Int32.max)).contains(last)
        else { return nil }
        return (String(parts[0]), last + 1)
    }

    /// The sixteen octets as they stand in objectGUID, or as text in entryUUID.
    static func id(_ value: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        if value.count == 16 { return Array(value) }
        let digits = value.filter { $0 != UInt8(ascii: "-") }
        guard digits.count == 32 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 32, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        return bytes
    }

    /// Lists one value, `user@domain` or `SMTP:user@domain`.
    private func list(
        _ value: UnsafeBufferPointer<UInt8>, _ object: [UInt8], _ flags: RecipientFlags, _ tag: Int,
        _ message: LDAPMessage
    ) {
        var text = value.trimmed
        if let colon = text.firstIndex(of: UInt8(ascii: ":")), text.slice(0..<colon).isAddressType {
            guard text.hasPrefixIgnoringCase("smtp:") else {
                counts.skipped.otherProtocols += 1
                return
            }
            text = text.slice(colon + 1..<text.count).trimmed
        }
        guard let address = try? RecipientAddress(path: text), !address.withLocalPart({ $0.isEmpty }) else {
            counts.skipped.malformed += 1
            return
        }
        guard address.hasDomain else {
            counts.skipped.withoutDomain += 1
            return
        }
        guard address.withDomain({ intake.admits($0, source: index) }) else {
            counts.foreign.note { "\(address.key) (\(printable(message.dn.utf8)))" }
            return
        }
        object.withUnsafeBufferPointer { object in
            address.withKey { intake.add(Entry(key: $0, tag: tag, flags: flags, object: object)) }
        }
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whether it is this name in lower case, whatever its own case.
    fileprivate func isFolded(_ name: [UInt8]) -> Bool {
        guard count == name.count else { return false }
        for index in 0..<count {
            let byte = self[index]
            guard (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte) == name[index] else { return false }
        }
        return true
    }

    /// Whether these octets before a colon name a kind of address: `SMTP`, `X400`, `sip`.
    fileprivate var isAddressType: Bool {
        func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte | 0x20) }
        guard let first, count <= 32, isLetter(first) else { return false }
        return allSatisfy { isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f }
    }
}
