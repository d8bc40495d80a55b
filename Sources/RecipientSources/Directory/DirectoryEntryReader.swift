import CLDAP
import Foundation
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
    private let internalOnly: [NamedCondition]
    private let disabled: [NamedCondition]
    /// Whether accounts should have userAccountControl, so that one without it is in doubt.
    private let expectsAccountControl: Bool
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
        internalOnly = configuration.internalOnly.map(NamedCondition.init)
        disabled = configuration.disabledTreatment == .include ? [] : configuration.disabled.map(NamedCondition.init)
        expectsAccountControl = Self.expectsAccountControl(configuration)
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
        var wanted = configuration.attributes + configuration.internalOnly.map(\.attribute)
        if configuration.disabledTreatment != .include { wanted += configuration.disabled.map(\.attribute) }
        if expectsAccountControl(configuration) { wanted.append("objectClass") }
        if names { wanted.append(idAttribute(configuration)) }
        var seen: Set<String> = []
        return wanted.filter { seen.insert($0.lowercased()).inserted }
    }

    private static func expectsAccountControl(_ configuration: DirectoryConfiguration) -> Bool {
        configuration.dialect == .activeDirectory && configuration.disabledTreatment != .include
            && configuration.disabled.contains { $0.attribute.lowercased() == "useraccountcontrol" }
    }

    /// A condition with its attribute's name in lower case, without options.
    private struct NamedCondition {
        let name: [UInt8]
        let condition: DirectoryConfiguration.Condition

        init(_ condition: DirectoryConfiguration.Condition) {
            name = DirectoryEntryReader.folded(condition.attribute)
            self.condition = condition
        }
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
        intake.countEntry()
        guard counts.read <= Self.mostEntries else {
            throw LDAPError(
                .search, LDAP_SIZELIMIT_EXCEEDED,
                "the server sent more than \(Self.mostEntries) entries, which is the limit: narrow bases or filter")
        }
        if !excluded.isEmpty, let name = DistinguishedName(message.dn), excluded.contains(where: name.isWithin) {
            counts.skipped.excluded += 1
            return
        }
        let facts = try look(message, id)
        if let expiry = facts.expiry { counts.nextExpiry = min(counts.nextExpiry ?? expiry, expiry) }
        let object = facts.id.map { [prefix] + $0 } ?? []
        for (attribute, value, reason) in facts.doubts {
            counts.doubts.note(
                EntryFault(place: legible(message.dn), value: "\(attribute)\(value)", reason: reason, object: object))
        }
        if facts.isDisabled, configuration.disabledTreatment == .exclude {
            counts.skipped.disabled += 1
            return
        }
        var flags: RecipientFlags = facts.isInternalOnly ? .internalOnly : []
        if facts.isDisabled { flags.insert(.disabled) }
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
        /// When it expires, in the future.
        var expiry: Date?
        /// What decides and can't be understood: the attribute, its value behind a colon, and what is made of it.
        var doubts: [(attribute: String, value: String, reason: String)] = []
        /// The attributes that have more values than the server sent, and the number of the next.
        var ranges: [(attribute: String, next: Int)] = []
    }

    private func look(_ message: LDAPMessage, _ id: [UInt8]?) throws(LDAPError) -> Facts {
        var facts = Facts(id: id)
        values.removeAll(keepingCapacity: true)
        var isAccount = false
        var hasAccountControl = false
        try message.forEachAttribute { attribute, found in
            let semicolon = attribute.firstIndex(of: UInt8(ascii: ";"))
            let name = attribute.slice(0..<(semicolon ?? attribute.count))
            if recipientNames.contains(where: name.isFolded) {
                values.append(contentsOf: found)
                if semicolon != nil, let range = Self.range(attribute) { facts.ranges.append(range) }
            }
            for test in internalOnly where name.isFolded(test.name) {
                if look(at: found, test.condition, "its recipients are open to everyone", &facts) {
                    facts.isInternalOnly = true
                }
            }
            for test in disabled where name.isFolded(test.name) {
                if look(at: found, test.condition, "it counts as enabled", &facts) { facts.isDisabled = true }
            }
            if expectsAccountControl {
                if name.isFolded(Self.accountControl) { hasAccountControl = true }
                if name.isFolded(Self.objectClass) {
                    isAccount = found.contains { $0.isFolded(Self.user) }
                }
            }
            if facts.id == nil, name.isFolded(idName) { facts.id = found.first { _ in true }.flatMap(Self.id) }
        }
        if isAccount, !hasAccountControl {
            facts.doubts.append(
                (
                    "userAccountControl", "",
                    "Postern's account isn't shown it, so whether this account is disabled can't be told; it counts as enabled"
                ))
        }
        return facts
    }

    private static let accountControl = Array("useraccountcontrol".utf8)
    private static let objectClass = Array("objectclass".utf8)
    private static let user = Array("user".utf8)

    /// Whether one of the values makes a condition hold; what can't be understood is noted.
    private func look(
        at values: LDAPValues, _ condition: DirectoryConfiguration.Condition, _ otherwise: String, _ facts: inout Facts
    ) -> Bool {
        var holds = false
        for value in values {
            switch condition.look(at: value, now: now) {
            case .holds: holds = true
            case .holdsNot: break
            case .holdsFrom(let date): facts.expiry = min(facts.expiry ?? date, date)
            case .unclear(let accepted):
                facts.doubts.append(
                    (condition.attribute, ": \(legible(value))", "it can't be read as \(accepted); \(otherwise)"))
            }
        }
        return holds
    }

    /// More entries than any directory of recipients has; without a limit, a server that never ends would fill the disk.
    private static let mostEntries = 50_000_000
    /// One time for a whole reading.
    private let now = Date()

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
        let address: RecipientAddress
        switch EntryJudge.judge(value) {
        case .recipient(let found): address = found
        case .catchAll(let domain): return listCatchAll(domain, object, tag, message)
        case .otherProtocol:
            counts.skipped.otherProtocols += 1
            return
        case .withoutDomain:
            counts.skipped.withoutDomain += 1
            return noteFault(value, "it has no domain; accepted: user@example.com", object, message)
        case .unreachable(let reason):
            counts.skipped.unreachable += 1
            return noteFault(value, reason, object, message)
        case .malformed(let reason):
            counts.skipped.malformed += 1
            return noteFault(value, "it is not an address: \(reason)", object, message)
        }
        guard address.withDomain({ intake.admits($0, source: index) }) else {
            counts.foreign.note { "\(address.key) (\(printable(message.dn.utf8)))" }
            return
        }
        object.withUnsafeBufferPointer { object in
            address.withKey { intake.add(Entry(key: $0, tag: tag, flags: flags, object: object)) }
        }
    }

    /// `@example.com`: every recipient of the domain, whatever the entry is.
    private func listCatchAll(_ domain: String, _ object: [UInt8], _ tag: Int, _ message: LDAPMessage) {
        let key = Array("@\(domain)".utf8)
        key.withUnsafeBufferPointer { key in
            guard intake.admits(key.slice(1..<key.count), source: index) else {
                counts.foreign.note { "@\(domain) (\(legible(message.dn)))" }
                return
            }
            object.withUnsafeBufferPointer { object in
                intake.add(Entry(key: key, tag: tag, flags: .catchAll, object: object))
            }
        }
    }

    private func noteFault(
        _ value: UnsafeBufferPointer<UInt8>, _ reason: String, _ object: [UInt8], _ message: LDAPMessage
    ) {
        counts.faults.note(
            EntryFault(place: legible(message.dn), value: legible(value), reason: reason, object: object))
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
}
