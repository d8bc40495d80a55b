import CLDAP
import Foundation
import MailAddress
import RecipientIndex

/// Reads the recipients from a directory's entries.
final class DirectoryEntryReader {
    private let configuration: DirectoryConfiguration
    private let entries: SourceEntries
    private let excluded: [DistinguishedName]
    /// Names of attributes in lower case, without options.
    private let recipientNames: [[UInt8]]
    private let internalOnly: [NamedCondition]
    private let disabled: [NamedCondition]
    /// Whether every account should have userAccountControl, so that an account without it is reported.
    private let expectsAccountControl: Bool
    private let idName: [UInt8]
    /// The values of the current entry that may be recipients, borrowed from its message.
    private var values: [UnsafeBufferPointer<UInt8>] = []

    /// The report of the reading: the entries that list no recipient, and why.
    private(set) var report: SourceReport

    /// Reads the remaining values of an attribute that the server has sent in part, from the value with this number on.
    typealias Remainder = (_ attribute: String, _ dn: String, _ first: Int) throws(LDAPError) -> [[UInt8]]

    init(_ configuration: DirectoryConfiguration, into entries: SourceEntries, report: SourceReport) {
        self.configuration = configuration
        self.entries = entries
        self.report = report
        excluded = configuration.excludedBases.compactMap(DistinguishedName.init)
        recipientNames = configuration.attributes.map(Self.folded)
        internalOnly = configuration.internalOnly.map(NamedCondition.init)
        disabled = configuration.disabledTreatment == .include ? [] : configuration.disabled.map(NamedCondition.init)
        expectsAccountControl = Self.expectsAccountControl(configuration)
        idName = Self.folded(Self.idAttribute(configuration))
    }

    /// The attribute with the sixteen bytes that identify an entry.
    static func idAttribute(_ configuration: DirectoryConfiguration) -> String {
        configuration.dialect == .activeDirectory ? "objectGUID" : "entryUUID"
    }

    /// The attributes to read of each entry.
    ///
    /// - Parameter withID: whether the identifier is one of them; content synchronization sends it in a control.
    static func attributes(_ configuration: DirectoryConfiguration, withID: Bool = true) -> [String] {
        var wanted = configuration.attributes + configuration.internalOnly.map(\.attribute)
        if configuration.disabledTreatment != .include { wanted += configuration.disabled.map(\.attribute) }
        if expectsAccountControl(configuration) { wanted.append("objectClass") }
        if withID { wanted.append(idAttribute(configuration)) }
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
    ///   - id: the sixteen bytes that identify the entry, if they came in a control.
    ///   - prefix: tells the source's search bases apart.
    func read(
        _ message: LDAPMessage, id: [UInt8]? = nil, prefix: UInt8 = 0, remainder: Remainder
    ) throws(LDAPError) {
        report.read += 1
        entries.countEntry()
        guard report.read <= Self.mostEntries else {
            throw .search(
                LDAP_SIZELIMIT_EXCEEDED,
                "the server sent more than \(Self.mostEntries) entries, which is Postern's limit; narrow bases or filter"
            )
        }
        if !excluded.isEmpty, let name = DistinguishedName(message.dn), excluded.contains(where: name.isWithin) {
            report.skipped.excluded += 1
            return
        }
        let facts = try examine(message, id)
        if let expiry = facts.expiry { report.nextExpiry = min(report.nextExpiry ?? expiry, expiry) }
        let object = facts.id.map { [prefix] + $0 } ?? []
        for (attribute, value, reason) in facts.doubts {
            report.doubts.note(
                EntryFault(
                    place: escapedText(message.dn), value: "\(attribute)\(value)", reason: reason, object: object))
        }
        if facts.isDisabled, configuration.disabledTreatment == .exclude {
            report.skipped.disabled += 1
            return
        }
        var flags: RecipientFlags = facts.isInternalOnly ? .internalOnly : []
        if facts.isDisabled { flags.insert(.disabled) }
        for value in values { list(value, object: object, flags: flags, of: message) }
        for range in facts.ranges {
            for value in try remainder(range.attribute, message.dn, range.next) {
                value.withUnsafeBufferPointer { list($0, object: object, flags: flags, of: message) }
            }
        }
    }

    /// The facts about an entry that must be known before its recipients are listed.
    private struct Facts {
        var id: [UInt8]?
        var isInternalOnly = false
        var isDisabled = false
        /// When it expires, if that is in the future.
        var expiry: Date?
        /// Values that decide on the entry and can't be understood: the attribute, `: value`, and the reason with the
        /// consequence.
        var doubts: [(attribute: String, value: String, reason: String)] = []
        /// The attributes that have more values than the server sent, and the number of the next value.
        var ranges: [(attribute: String, next: Int)] = []
    }

    private func examine(_ message: LDAPMessage, _ id: [UInt8]?) throws(LDAPError) -> Facts {
        var facts = Facts(id: id)
        values.removeAll(keepingCapacity: true)
        var isAccount = false
        var hasAccountControl = false
        try message.forEachAttribute { attribute, found in
            let semicolon = attribute.firstIndex(of: UInt8(ascii: ";"))
            let name = attribute.slice(0..<(semicolon ?? attribute.count))
            if recipientNames.contains(where: name.equalsIgnoringCase) {
                values.append(contentsOf: found)
                if semicolon != nil, let range = Self.range(attribute) { facts.ranges.append(range) }
            }
            for test in internalOnly where name.equalsIgnoringCase(test.name) {
                if holds(test.condition, for: found, otherwise: "everyone may write to its recipients", &facts) {
                    facts.isInternalOnly = true
                }
            }
            for test in disabled where name.equalsIgnoringCase(test.name) {
                if holds(test.condition, for: found, otherwise: "it counts as enabled", &facts) {
                    facts.isDisabled = true
                }
            }
            if expectsAccountControl {
                if name.equalsIgnoringCase(Self.accountControl) { hasAccountControl = true }
                if name.equalsIgnoringCase(Self.objectClass) {
                    isAccount = found.contains { $0.equalsIgnoringCase(Self.user) }
                }
            }
            if facts.id == nil, name.equalsIgnoringCase(idName) {
                facts.id = found.first { _ in true }.flatMap(Self.id)
            }
        }
        if isAccount, !hasAccountControl {
            facts.doubts.append(
                (
                    "userAccountControl", "",
                    "the server doesn't show it to Postern's account, so the account counts as enabled"
                ))
        }
        return facts
    }

    private static let accountControl = Array("useraccountcontrol".utf8)
    private static let objectClass = Array("objectclass".utf8)
    private static let user = Array("user".utf8)

    /// Whether a condition holds for one of the values; values that can't be understood are noted.
    ///
    /// - Parameter otherwise: the consequence of a value that can't be understood, as a clause.
    private func holds(
        _ condition: DirectoryConfiguration.Condition, for values: LDAPValues, otherwise: String, _ facts: inout Facts
    ) -> Bool {
        var holds = false
        for value in values {
            switch condition.evaluate(value, now: now) {
            case .holds: holds = true
            case .holdsNot: break
            case .holdsFrom(let date): facts.expiry = min(facts.expiry ?? date, date)
            case .unclear(let accepted):
                facts.doubts.append(
                    (condition.attribute, ": \(escapedText(value))", "it is not \(accepted); \(otherwise)"))
            }
        }
        return holds
    }

    /// The most entries of a directory, so that no server can fill the disk.
    private static let mostEntries = 50_000_000
    /// The time by which all entries are judged.
    private let now = Date()

    private static func folded(_ name: String) -> [UInt8] {
        Array(name.lowercased().utf8.prefix { $0 != UInt8(ascii: ";") })
    }

    /// The number of the value that follows `proxyAddresses;range=0-1499`; nil for a whole attribute and for the last
    /// part of one (MS-ADTS section 3.1.1.3.1.3.3).
    static func range(_ attribute: UnsafeBufferPointer<UInt8>) -> (attribute: String, next: Int)? {
        let parts = String(decoding: attribute, as: UTF8.self).split(separator: ";")
        guard let option = parts.dropFirst().first(where: { $0.lowercased().hasPrefix("range=") }),
            let dash = option.firstIndex(of: "-"), let last = Int(option[option.index(after: dash)...]),
            (0..<Int(Int32.max)).contains(last)
        else { return nil }
        return (String(parts[0]), last + 1)
    }

    /// The sixteen bytes of an identifier: binary in objectGUID, text in entryUUID.
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
        _ value: UnsafeBufferPointer<UInt8>, object: [UInt8], flags: RecipientFlags, of message: LDAPMessage
    ) {
        switch EntryValue(value) {
        case .recipient(let address):
            guard address.withDomain({ entries.admits($0) }) else {
                report.foreign.note { "\(address.key) (\(escapedASCII(message.dn.utf8)))" }
                return
            }
            object.withUnsafeBufferPointer { object in
                address.withKey { entries.add(key: $0, flags: flags, object: object) }
            }
        case .catchAll(let domain): listCatchAll(domain, object: object, of: message)
        case .otherProtocol: report.skipped.otherProtocols += 1
        case .withoutDomain:
            report.skipped.withoutDomain += 1
            noteFault(value, of: object, in: message, "it has no domain; accepted: user@example.com")
        case .unreachable(let reason):
            report.skipped.unreachable += 1
            noteFault(value, of: object, in: message, reason)
        case .malformed(let reason):
            report.skipped.malformed += 1
            noteFault(value, of: object, in: message, "it is not an address: \(reason)")
        }
    }

    /// Lists `@example.com`, which stands for every recipient of the domain, whatever the entry's flags.
    private func listCatchAll(_ domain: String, object: [UInt8], of message: LDAPMessage) {
        let key = Array("@\(domain)".utf8)
        key.withUnsafeBufferPointer { key in
            guard entries.admits(key.slice(1..<key.count)) else {
                report.foreign.note { "@\(domain) (\(escapedText(message.dn)))" }
                return
            }
            object.withUnsafeBufferPointer { entries.add(key: key, flags: .catchAll, object: $0) }
        }
    }

    private func noteFault(
        _ value: UnsafeBufferPointer<UInt8>, of object: [UInt8], in message: LDAPMessage, _ reason: String
    ) {
        report.faults.note(
            EntryFault(place: escapedText(message.dn), value: escapedText(value), reason: reason, object: object))
    }
}
