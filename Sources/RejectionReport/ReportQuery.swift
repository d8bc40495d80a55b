public import Foundation
public import RejectionLog

/// The options of a report.
public struct ReportQuery: Sendable, Equatable {
    /// The values that a table of rejections can have.
    public enum Key: String, Sendable, CaseIterable {
        case recipient, domain, client, network, sender, reason, hour, day, host
    }

    /// The period, domain, reason and client.
    public var selection: LogSelection
    /// The greatest length of a list.
    public var top: Int
    /// The key of the table; nil for a report without one.
    public var key: Key?
    /// True to show senders that differ by a VERP, SRS or BATV tag only as one.
    public var foldVERP: Bool
    /// True to hide local parts: `*@example.com`.
    public var redact: Bool
    /// The zone in which days begin in the trend and in tables.
    public var timeZone: TimeZone

    /// A report on a selection, by default with lists of ten and without a table.
    public init(
        _ selection: LogSelection, top: Int = 10, key: Key? = nil, foldVERP: Bool = false, redact: Bool = false,
        timeZone: TimeZone = .current
    ) {
        self.selection = selection
        self.top = top
        self.key = key
        self.foldVERP = foldVERP
        self.redact = redact
        self.timeZone = timeZone
    }
}

/// What a report needs beside the log: the recipients that are listed now, and the state of the sync.
public struct ReportContext: Sendable {
    /// The recipient index and its sources at the time of the report.
    public struct Sync: Sendable, Equatable {
        /// The index in force.
        public struct Index: Sendable, Equatable {
            /// When it was made.
            public var created: Date
            /// How many recipients it lists.
            public var recipients: Int
            /// Its age in seconds, not below 0.
            public var age: Int
            /// How many seconds its date lies in the future; 0 where it doesn't, or no more than clocks differ by.
            public var ahead: Int
            /// True where the age is over `index.max_age`, or unknown because the date lies in the future.
            public var isStale: Bool

            /// An index.
            public init(created: Date, recipients: Int, age: Int, ahead: Int = 0, isStale: Bool = false) {
                self.created = created
                self.recipients = recipients
                self.age = age
                self.ahead = ahead
                self.isStale = isStale
            }
        }

        /// A source of the recipient list.
        public struct Source: Sendable, Equatable {
            /// Its name in the configuration.
            public var name: String
            /// How many recipients it lists.
            public var recipients: Int
            /// When it was last synced; nil if never.
            public var asOf: Date?
            /// Why it could not be read at the last attempt; nil if it could.
            public var failure: String?

            /// A source.
            public init(name: String, recipients: Int, asOf: Date?, failure: String?) {
                self.name = name
                self.recipients = recipients
                self.asOf = asOf
                self.failure = failure
            }
        }

        /// A recipient list that a guard rejected, and that no later one has replaced.
        public struct RefusedList: Sendable, Equatable {
            /// When it was rejected.
            public var time: Date
            /// Why.
            public var text: String
            /// How many recipients it would have removed.
            public var removed: Int
            /// True where `postern sync --accept-shrink` publishes it.
            public var acceptable: Bool

            /// A rejected list.
            public init(time: Date, text: String, removed: Int, acceptable: Bool) {
                self.time = time
                self.text = text
                self.removed = removed
                self.acceptable = acceptable
            }
        }

        /// The index in force; nil where there is none.
        public var index: Index?
        /// The sources, where the sync runs on this machine; else empty.
        public var sources: [Source] = []
        /// A list that a guard rejected.
        public var refused: RefusedList?

        /// Neither an index nor sources.
        public init() {}
    }

    /// True for the bytes of an address that the index lists, and that a stranger may write to. An address that only a
    /// catch-all domain accepts is not listed. Nil where there is no index: then a report has no near misses.
    public var isListed: (@Sendable (UnsafeBufferPointer<UInt8>) -> Bool)?
    /// True for the bytes of an address to which a stranger's mail is rejected as unknown; nil where the verdict isn't
    /// known.
    public var isUnknown: (@Sendable (UnsafeBufferPointer<UInt8>) -> Bool)?
    /// The relay domains (A-labels).
    public var relayDomains: [String] = []
    /// The state of the index and its sources; nil where there is neither an index nor a sync.
    public var sync: Sync?
    /// How often the index may be asked.
    public var lookups = 1_000_000
    /// The time of the report.
    public var now = Date()
    /// The number of rejections above which counting a part of a day by subtraction is faster.
    var subtractionThreshold = 100_000

    /// A context in which nothing is known.
    public init() {}
}
