public import Foundation

/// What one source gave.
public struct SourceReport: Sendable, Codable {
    /// How the source was read.
    public enum Reading: String, Sendable, Codable {
        /// Read from its beginning to its end.
        case full
        /// Only what has changed since the last time was read.
        case changes
        /// Known to be as it was, so not read.
        case unchanged
        /// Could not be read; its last list stays in use.
        case failed
    }

    /// The name in the configuration.
    public var name: String
    /// The type in the configuration.
    public var type: String
    /// How it was read.
    public var reading: Reading = .full
    /// When it was last known to be as the state has it.
    public var asOf: Date?
    /// How many entries it holds, of any kind.
    public var read = 0
    /// How many recipients it lists within the relay domains and its own domains, each counted once.
    public var listed = 0
    /// How many entries repeat an address of the same source.
    public var duplicates = 0
    /// Addresses outside of the relay domains or the source's own.
    public var foreign = ForeignAddresses()
    /// Entries that list no recipient, by reason.
    public var skipped = SkippedEntries()
    /// Entries that list nobody though they seem meant to, or are in doubt.
    public var faults = EntryFaults()
    /// The same of the values that should name relay domains.
    public var domainFaults = EntryFaults()
    /// Entries that are listed, and of which something that decides could not be read.
    public var doubts = EntryFaults()
    /// When the next of the recipients that have an expiry date expires.
    public var nextExpiry: Date?
    /// Aliases whose target in a relay domain no source lists; nil where there are none.
    public var unlistedTargets: UnlistedTargets?
    /// Why it could not be read, where it could not.
    public var failure: String?
    /// The directory server that answered.
    public var server: String?
    /// How a directory was asked: `paged search`, `DirSync`, `uSNChanged`, `content synchronization`.
    public var method: String?
    /// How long reading it took, in seconds.
    public var duration = 0.0
    /// Since when it is being read; its last list stays in use until that is done. nil where it isn't.
    public var runningSince: Date?

    /// What an operator should know of how it was read, a clause each.
    public var remarks: [String] = []

    /// The same report with what another one of the source knows of its faults.
    package func with(faultsOf later: SourceReport) -> SourceReport {
        var report = self
        (report.faults, report.domainFaults, report.doubts) = (later.faults, later.domainFaults, later.doubts)
        report.nextExpiry = later.nextExpiry
        return report
    }

    /// How many of the entries that were read are malformed or unreachable.
    public var faulty: Int { skipped.malformed + skipped.unreachable + skipped.wildcards }

    package init(name: String, type: String, server: String? = nil, remarks: [String] = []) {
        self.name = name
        self.type = type
        self.server = server
        self.remarks = remarks
    }

    /// Reads a report; what an older version didn't write has its default.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func value<Value: Decodable>(_ key: CodingKeys, _ other: Value) throws -> Value {
            try values.decodeIfPresent(Value.self, forKey: key) ?? other
        }
        name = try values.decode(String.self, forKey: .name)
        type = try values.decode(String.self, forKey: .type)
        reading = try value(.reading, .full)
        asOf = try values.decodeIfPresent(Date.self, forKey: .asOf)
        read = try value(.read, 0)
        listed = try value(.listed, 0)
        duplicates = try value(.duplicates, 0)
        foreign = try value(.foreign, ForeignAddresses())
        skipped = try value(.skipped, SkippedEntries())
        faults = try value(.faults, EntryFaults())
        domainFaults = try value(.domainFaults, EntryFaults())
        doubts = try value(.doubts, EntryFaults())
        nextExpiry = try values.decodeIfPresent(Date.self, forKey: .nextExpiry)
        unlistedTargets = try values.decodeIfPresent(UnlistedTargets.self, forKey: .unlistedTargets)
        failure = try values.decodeIfPresent(String.self, forKey: .failure)
        server = try values.decodeIfPresent(String.self, forKey: .server)
        method = try values.decodeIfPresent(String.self, forKey: .method)
        duration = try value(.duration, 0)
        runningSince = try values.decodeIfPresent(Date.self, forKey: .runningSince)
        remarks = try value(.remarks, [])
    }
}

/// Addresses that were dropped for their domain: all counted, the first ten kept.
public struct ForeignAddresses: Sendable, Codable, Equatable {
    /// How many there are.
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
    /// A domain by itself, which declares the domain.
    public package(set) var domains = 0
    /// A user without a domain, which no relay domain can match.
    public package(set) var withoutDomain = 0
    /// Entries that refuse their address: `REJECT`, `DISCARD`, `ERROR:…`, `error:nouser`.
    public package(set) var refusing = 0
    /// Sendmail's access entries that aren't about recipients: `From:`, `Connect:`, `Spam:`.
    public package(set) var otherTags = 0
    /// Sendmail's wildcard keys (`+*@domain`) that no list of recipients can express.
    public package(set) var wildcards = 0

    /// Values of a directory that aren't SMTP addresses: `X400:`, `SIP:`, `x500:`.
    public package(set) var otherProtocols = 0
    /// Values of a directory that are no addresses.
    public package(set) var malformed = 0
    /// Entries that can be read as addresses, and for which no mail passes the filter.
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

    /// All of them.
    public var total: Int {
        domains + withoutDomain + refusing + otherTags + wildcards + otherProtocols + malformed + unreachable + disabled
            + excluded
    }
}
