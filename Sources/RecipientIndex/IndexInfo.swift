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

    /// A relay domain that a source names.
    public struct RelayDomain: Sendable, Codable, Equatable {
        /// The A-label.
        public var name: String
        /// Whether recipients that aren't listed are accepted too, as others know them.
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
