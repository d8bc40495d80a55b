public import Foundation

/// A source of a snapshot's recipients; contains no addresses.
public struct IndexSource: Sendable, Codable, Equatable {
    /// The name of the source in the configuration.
    public var name: String
    /// The type of the source in the configuration: `file`, `active-directory` and so on.
    public var type: String
    /// The number of recipients that the source lists.
    public var recipients: Int
    /// The time as of which the source's list is complete; a snapshot keeps milliseconds.
    public var asOf: Date
    /// The relay domains that the source names; empty if it isn't configured to name any.
    public var relayDomains: [RelayDomain]
    /// The alias domains that the source names.
    public var aliasDomains: [AliasDomain]

    /// The type of a table that lists relay domains only (`relay.domains_from`); the source's name is the table's path.
    public static let relayTable = "relay-domains"

    /// Whether the source is a table that lists relay domains only (`relay.domains_from`).
    public var isRelayTable: Bool { type == Self.relayTable }

    /// A source of recipients.
    public init(
        name: String, type: String, recipients: Int, asOf: Date, relayDomains: [RelayDomain] = [],
        aliasDomains: [AliasDomain] = []
    ) {
        self.name = name
        self.type = type
        self.recipients = recipients
        self.asOf = asOf
        self.relayDomains = relayDomains
        self.aliasDomains = aliasDomains
    }
}

/// A relay domain that a source names.
public struct RelayDomain: Sendable, Codable, Equatable {
    /// The A-label; a name that begins with a dot stands for the subdomains.
    public var name: String
    /// Whether the filter accepts every recipient of the domain, as no source lists them all.
    public var takesAll: Bool

    /// A relay domain.
    public init(name: String, takesAll: Bool) {
        self.name = name
        self.takesAll = takesAll
    }
}

/// A domain whose recipients are those of another domain.
public struct AliasDomain: Sendable, Codable, Equatable {
    /// The A-label of the alias.
    public var name: String
    /// The A-label of the domain that lists the recipients.
    public var target: String

    /// An alias domain.
    public init(name: String, target: String) {
        self.name = name
        self.target = target
    }
}

/// The description of a snapshot: its age, counts and sources.
public struct IndexInfo: Sendable, Equatable {
    /// The version of the file format.
    public var version: UInt32
    /// The time as of which the recipients are listed, in milliseconds.
    public var created: Date
    /// The publisher's number for the snapshot; 0 for none.
    public var generation: UInt64
    /// The number of listed recipients, without domains and leaving recipients.
    public var recipients: Int
    /// The number of leaving recipients: no source lists them any more, and they are deferred for `sync.grace`.
    public var leaving = 0
    /// The number of catch-all domains.
    public var catchAllDomains: Int
    /// The number of keys of every kind.
    public var entries: Int
    /// The number of buckets of seven slots.
    public var buckets: Int
    /// The length of the file in bytes.
    public var fileSize: Int
    /// The sources of the recipients.
    public var sources: [IndexSource]
}

extension IndexInfo {
    /// The description in a snapshot file. Every byte is verified; ``IndexError`` names the file and the fault.
    public init(path: String) throws(IndexError) {
        do throws(IndexFault) {
            let (header, sources) = try IndexFile(path: path).readAll { _ in nil }
            self.init(header, sources: sources)
        } catch {
            throw IndexError(error, path: path)
        }
    }

    init(_ header: IndexHeader, sources: [IndexSource]) {
        self.init(
            version: IndexFormat.version, created: Date(millisecondsSince1970: header.created),
            generation: header.generation, recipients: header.recipients, leaving: header.leaving,
            catchAllDomains: header.catchAlls, entries: header.entries, buckets: header.bucketCount,
            fileSize: header.fileSize, sources: sources)
    }
}

/// The form of an ``IndexSource`` in the snapshot file.
struct StoredSource: Codable {
    let name: String
    let type: String
    let recipients: Int
    let asOf: Int64
    let relayDomains: [RelayDomain]?
    let aliasDomains: [AliasDomain]?

    init(_ source: IndexSource) {
        name = source.name
        type = source.type
        recipients = source.recipients
        asOf = source.asOf.millisecondsSince1970
        relayDomains = source.relayDomains.isEmpty ? nil : source.relayDomains
        aliasDomains = source.aliasDomains.isEmpty ? nil : source.aliasDomains
    }

    var source: IndexSource {
        IndexSource(
            name: name, type: type, recipients: recipients, asOf: Date(millisecondsSince1970: asOf),
            relayDomains: relayDomains ?? [], aliasDomains: aliasDomains ?? [])
    }

    static func encode(_ sources: [IndexSource]) throws(IndexFault) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(sources.map(StoredSource.init)),
            json.count <= IndexFormat.maximumSourcesLength
        else {
            throw IndexFault(
                .notPublished(EINVAL),
                "can't be published: the description of its \(sources.count) sources is longer than 1 MiB")
        }
        return [UInt8](json)
    }

    static func decode(_ json: [UInt8]) throws(IndexFault) -> [IndexSource] {
        do {
            return try JSONDecoder().decode([StoredSource].self, from: Data(json)).map(\.source)
        } catch {
            throw .damaged("the list of sources isn't valid JSON of the expected form")
        }
    }
}

extension Date {
    /// Milliseconds since 1970, clamped to 64 bits; 0 for a date that is not a number.
    var millisecondsSince1970: Int64 {
        let milliseconds = (timeIntervalSince1970 * 1000).rounded()
        if let exact = Int64(exactly: milliseconds) { return exact }
        return milliseconds.isNaN ? 0 : milliseconds < 0 ? .min : .max
    }

    init(millisecondsSince1970 milliseconds: Int64) {
        self.init(timeIntervalSince1970: Double(milliseconds) / 1000)
    }
}

/// The flags of a key in the recipient index, one byte; without any flag, every client may send to the recipient.
///
/// Bits that this version doesn't define are kept.
public struct RecipientFlags: OptionSet, Sendable, Hashable {
    /// The byte in the snapshot file.
    public let rawValue: UInt8

    /// The flags in a byte of the snapshot file; every value is allowed.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Only trusted clients may send to the recipient.
    public static let internalOnly = RecipientFlags(rawValue: 1)
    /// No client may send to the recipient.
    public static let disabled = RecipientFlags(rawValue: 2)
    /// The key is a domain, `@example.com`, of which every recipient is accepted.
    public static let catchAll = RecipientFlags(rawValue: 4)
    /// The key is a relay domain, `@example.com`.
    public static let relayDomain = RecipientFlags(rawValue: 8)
    /// The recipient left the list less than `sync.grace` ago: it is deferred, not yet rejected.
    public static let leaving = RecipientFlags(rawValue: 16)
    /// The key is an alias domain, `@alias.example`; see ``IndexSource/aliasDomains``.
    public static let aliasDomain = RecipientFlags(rawValue: 32)

    /// Whether the key is a domain rather than a recipient.
    var isOfDomain: Bool { !isDisjoint(with: [.catchAll, .relayDomain, .aliasDomain]) }

    /// The flags of a key that two sources list with different flags.
    ///
    /// A client may send to the recipient if either source allows it: a restriction holds only if both have one, and
    /// internal-only prevails over disabled. It is leaving only if both say so. Any other flag of either source holds.
    public func merged(with other: RecipientFlags) -> RecipientFlags {
        let restrictions: RecipientFlags = [.internalOnly, .disabled]
        let isLeaving = contains(.leaving) && other.contains(.leaving)
        let rest = union(other).subtracting(isLeaving ? restrictions : restrictions.union(.leaving))
        if isDisjoint(with: restrictions) || other.isDisjoint(with: restrictions) { return rest }
        if !contains(.disabled) || !other.contains(.disabled) { return rest.union(.internalOnly) }
        return rest.union(intersection(other).intersection(restrictions))
    }
}
