public import Foundation

/// The outcome of reading a source: how many entries were read, which of them list no recipient, and why.
public struct SourceReport: Sendable, Codable {
    /// How a source was read.
    public enum Reading: String, Sendable, Codable {
        /// From its beginning to its end.
        case full
        /// Only the entries that have changed since the last reading.
        case changes
        /// Not at all: it is known to be unchanged.
        case unchanged
        /// It could not be read; its last list stays in use.
        case failed
    }

    /// How many entries the source holds, of any kind.
    public var read = 0
    /// How many entries repeat an address of the same source; counted by the sync.
    public var duplicates = 0
    /// Addresses outside of the relay domains or the source's own.
    public var foreign = ForeignAddresses()
    /// Entries that list no recipient, by reason.
    public var skipped = SkippedEntries()
    /// Entries that seem meant to list a recipient, and don't.
    public var faults = EntryFaults()
    /// Entries that seem meant to name a relay domain, and don't.
    public var domainFaults = EntryFaults()
    /// Listed entries with a value that decides on them, such as an expiry date, and can't be understood.
    public var doubts = EntryFaults()
    /// When the next of the recipients that have an expiry date expires.
    public var nextExpiry: Date?
    /// The aliases whose target is a recipient in a relay domain that no source lists; found by the sync, nil if there
    /// are none.
    public var unlistedTargets: UnlistedTargets?
    /// The directory server that answered.
    public var server: String?
    /// How a directory was asked: `paged search`, `DirSync`, `uSNChanged`, `content synchronization`.
    public var method: String?
    /// Facts about the reading that a postmaster should know, a clause each.
    public var remarks: [String] = []

    /// How many of the entries that were read are malformed or unreachable.
    public var faulty: Int { skipped.malformed + skipped.unreachable + skipped.wildcards }

    package init(server: String? = nil, remarks: [String] = []) {
        self.server = server
        self.remarks = remarks
    }

    /// Reads a report; fields that an older version didn't write have their defaults.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func value<Value: Decodable>(_ key: CodingKeys, _ other: Value) throws -> Value {
            try values.decodeIfPresent(Value.self, forKey: key) ?? other
        }
        read = try value(.read, 0)
        duplicates = try value(.duplicates, 0)
        foreign = try value(.foreign, ForeignAddresses())
        skipped = try value(.skipped, SkippedEntries())
        faults = try value(.faults, EntryFaults())
        domainFaults = try value(.domainFaults, EntryFaults())
        doubts = try value(.doubts, EntryFaults())
        nextExpiry = try values.decodeIfPresent(Date.self, forKey: .nextExpiry)
        unlistedTargets = try values.decodeIfPresent(UnlistedTargets.self, forKey: .unlistedTargets)
        server = try values.decodeIfPresent(String.self, forKey: .server)
        method = try values.decodeIfPresent(String.self, forKey: .method)
        remarks = try value(.remarks, [])
    }
}

/// Addresses that were dropped for their domain: all counted, the first ten kept.
public struct ForeignAddresses: Sendable, Codable, Equatable {
    /// How many addresses were dropped.
    public package(set) var count = 0
    /// The first of them, with their place: `user@example.net (line 7)`.
    public package(set) var first: [String] = []

    package mutating func note(_ text: () -> String) {
        count += 1
        if first.count < 10 { first.append(text()) }
    }
}

/// Entries of a table that list no recipient.
public struct SkippedEntries: Sendable, Codable, Equatable {
    /// A domain alone, which declares the domain.
    public package(set) var domains = 0
    /// A user without a domain, which no relay domain can match.
    public package(set) var withoutDomain = 0
    /// Entries that reject their address: `REJECT`, `DISCARD`, `ERROR:…`, `error:nouser`.
    public package(set) var refusing = 0
    /// Entries of Sendmail's access that aren't about recipients: `From:`, `Connect:`, `Spam:`.
    public package(set) var otherTags = 0
    /// Sendmail's wildcard keys (`+*@domain`) that no list of recipients can express.
    public package(set) var wildcards = 0

    /// Values of a directory that aren't SMTP addresses: `X400:`, `SIP:`, `x500:`.
    public package(set) var otherProtocols = 0
    /// Values of a directory that aren't addresses.
    public package(set) var malformed = 0
    /// Addresses for which no mail passes the filter.
    public package(set) var unreachable = 0
    /// Disabled entries of a directory, where the configuration leaves them out.
    public package(set) var disabled = 0
    /// Entries of a directory below a base that the configuration leaves out.
    public package(set) var excluded = 0

    init() {}

    /// Counts that an older version didn't have are 0.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func count(_ key: CodingKeys) throws -> Int { try values.decodeIfPresent(Int.self, forKey: key) ?? 0 }
        domains = try count(.domains)
        withoutDomain = try count(.withoutDomain)
        refusing = try count(.refusing)
        otherTags = try count(.otherTags)
        wildcards = try count(.wildcards)
        otherProtocols = try count(.otherProtocols)
        malformed = try count(.malformed)
        unreachable = try count(.unreachable)
        disabled = try count(.disabled)
        excluded = try count(.excluded)
    }

    /// The number of all these entries.
    public var total: Int {
        domains + withoutDomain + refusing + otherTags + wildcards + otherProtocols + malformed + unreachable + disabled
            + excluded
    }
}

/// An entry of a source that seems meant to list a recipient and doesn't, or with a value that can't be understood.
public struct EntryFault: Sendable, Codable, Equatable {
    /// The place of the entry: `line 17`, or the name of a directory's entry.
    public var place: String
    /// The value, with invisible characters escaped.
    public var value: String
    /// The fault, as a clause.
    public var reason: String
    /// The directory's object that has the value: a later change of the object replaces the fault. Nil in a table.
    var object: [UInt8]?

    package init(place: String, value: String, reason: String, object: [UInt8] = []) {
        self.place = place
        self.value = value
        self.reason = reason
        self.object = object.isEmpty ? nil : object
    }
}

extension EntryFault: CustomStringConvertible {
    /// `line 17: "*@example.com": reason`.
    public var description: String { "\(place): \"\(value)\": \(reason)" }
}

/// The faulty entries of a source: all are counted, the first twenty kept.
public struct EntryFaults: Sendable, Codable, Equatable {
    /// How many faults are kept.
    public static let kept = 20

    /// How many faults there are.
    public private(set) var count = 0
    /// The first of them in the order of the source.
    public private(set) var first: [EntryFault] = []

    package init() {}

    package mutating func note(_ fault: @autoclosure () -> EntryFault) {
        count += 1
        if first.count < Self.kept { first.append(fault()) }
    }

    /// Replaces the faults of objects that have changed by their present faults.
    ///
    /// - Parameter replaced: whether an object was changed or deleted.
    package mutating func replace(with changes: EntryFaults, replaced: ([UInt8]) -> Bool) {
        let before = first.count
        first.removeAll { $0.object.map(replaced) ?? false }
        count = max(count - (before - first.count), first.count) + changes.count
        first += changes.first.prefix(Self.kept - first.count)
    }
}

/// Aliases of tables whose target is a recipient in a relay domain that no source lists: all are counted, the first
/// twenty kept.
public struct UnlistedTargets: Sendable, Codable, Equatable {
    /// How many aliases are kept.
    static let kept = 20

    /// How many aliases have such a target.
    public package(set) var count = 0
    /// The first of them in the order of the table: `info@example.com (line 7): someone@example.com`.
    public package(set) var first: [String] = []
}
