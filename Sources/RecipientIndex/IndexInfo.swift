public import Foundation

/// Where recipients of a snapshot came from; holds no address.
public struct IndexSource: Sendable, Codable, Equatable {
    /// The name of the source in the configuration.
    public var name: String
    /// The type of the source in the configuration: `file`, `active-directory` and so on.
    public var type: String
    /// How many recipients it gave.
    public var recipients: Int
    /// When it was last read in full; a snapshot file keeps it to the millisecond.
    public var asOf: Date
    /// The relay domains that it names; empty where it isn't asked for any.
    public var relayDomains: [RelayDomain]
    /// The alias domains that it names.
    public var aliasDomains: [AliasDomain]

    /// The type of a table of the configuration that lists relay domains, and no recipients; the name is its path.
    public static let relayTable = "relay-domains"

    /// Whether it is a table of the configuration that lists relay domains, and no recipients.
    public var isRelayTable: Bool { type == Self.relayTable }

    /// A source as it is written into a snapshot.
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
    /// Whether the filter accepts every recipient of the domain, as the recipients that no source lists are known
    /// elsewhere.
    public var takesAll: Bool

    /// A domain as it is written into a snapshot.
    public init(name: String, takesAll: Bool) {
        self.name = name
        self.takesAll = takesAll
    }
}

/// A domain whose recipients are those of another one.
public struct AliasDomain: Sendable, Codable, Equatable {
    /// The A-label of the alias.
    public var name: String
    /// The A-label of the domain whose recipients it has.
    public var target: String

    /// An alias as it is written into a snapshot.
    public init(name: String, target: String) {
        self.name = name
        self.target = target
    }
}

/// What a snapshot says of itself.
public struct IndexInfo: Sendable, Equatable {
    /// The version of the file format.
    public var version: UInt32
    /// When it was made, to the millisecond.
    public var created: Date
    /// The publisher's own number for it; 0 when it gave none.
    public var generation: UInt64
    /// How many recipients are listed; domains and leaving recipients aren't counted.
    public var recipients: Int
    /// How many keys are leaving: no source lists them any more, and they are deferred for a time of grace.
    public var leaving = 0
    /// How many domains take every recipient.
    public var catchAllDomains: Int
    /// How many keys of every kind the table holds.
    public var entries: Int
    /// How many buckets of seven slots the table has.
    public var buckets: Int
    /// The length of the file in bytes.
    public var fileSize: Int
    /// Where the recipients came from.
    public var sources: [IndexSource]
}

extension IndexInfo {
    /// What a snapshot file says of itself; every byte of the file is read and verified for it, as for an ``IndexSnapshot``, but not kept.
    ///
    /// - Throws: ``IndexError`` with the file and what is wrong with it.
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
            version: IndexFormat.version, created: .init(millisecondsSince1970: header.created),
            generation: header.generation, recipients: header.recipients, leaving: header.leaving,
            catchAllDomains: header.catchAlls,
            entries: header.entries, buckets: header.bucketCount, fileSize: header.fileSize, sources: sources)
    }
}

/// ``IndexSource`` as the file has it.
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
                .notPublished(EINVAL), "can't be published: its \(sources.count) sources are too long to list")
        }
        return [UInt8](json)
    }

    static func decode(_ json: [UInt8]) throws(IndexFault) -> [IndexSource] {
        do {
            return try JSONDecoder().decode([StoredSource].self, from: Data(json)).map(\.source)
        } catch {
            throw .damaged("its list of sources can't be understood")
        }
    }
}

extension Date {
    /// Milliseconds since 1970, clamped to what 64 bits hold; no number at all becomes 0.
    var millisecondsSince1970: Int64 {
        let milliseconds = (timeIntervalSince1970 * 1000).rounded()
        if let exact = Int64(exactly: milliseconds) { return exact }
        return milliseconds.isNaN ? 0 : milliseconds < 0 ? .min : .max
    }

    init(millisecondsSince1970 milliseconds: Int64) {
        self.init(timeIntervalSince1970: Double(milliseconds) / 1000)
    }
}
