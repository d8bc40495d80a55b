public import Foundation

extension RejectionReport {
    /// What the report was cut down to; nil where it wasn't.
    public struct Cut: Codable, Sendable, Equatable {
        /// Only this recipient domain.
        public var domain: String?
        /// Only this reason.
        public var reason: String?
        /// Only this client, or the clients of this network.
        public var client: String?
        /// True where local parts are hidden.
        public var redacted = false
        /// True where VERP senders are folded into one.
        public var foldsVERP = false

        enum CodingKeys: String, CodingKey {
            case domain, reason, client, redacted
            case foldsVERP = "verp_folded"
        }
    }

    /// The period before.
    public struct Previous: Codable, Sendable, Equatable {
        /// The period.
        public var period: Period
        /// Its sums.
        public var totals: Totals
        /// Its verdicts by reason.
        public var byReason: [String: Int]

        enum CodingKeys: String, CodingKey {
            case period, totals
            case byReason = "by_reason"
        }
    }

    /// The period in steps.
    public struct Trend: Codable, Sendable, Equatable {
        /// The length of a step.
        public enum Unit: String, Codable, Sendable, CaseIterable {
            /// A minute: periods of up to two hours.
            case minute
            /// An hour: periods of up to three days.
            case hour
            /// A day, in the report's time zone as far as the counters are kept by the hour.
            case day
            /// Seven days.
            case week
        }

        /// What was asked for in a step.
        public struct Step: Codable, Sendable, Equatable {
            /// Its beginning.
            public var start: Date
            /// Refused with a 5xx reply.
            public var refused: Int
            /// Put off with a 4xx reply.
            public var tempfailed: Int
            /// Let pass by observe mode.
            public var observed: Int
            /// Accepted.
            public var accepted: Int
        }

        /// The length of the steps.
        public var unit = Unit.hour
        /// The steps in order of time, those in which nothing came too.
        public var steps: [Step] = []
    }

    /// Refusals by one key.
    public struct Table: Codable, Sendable, Equatable {
        /// What the rows stand for.
        public enum Key: String, Codable, Sendable, CaseIterable {
            case recipient, domain, client, network, sender, reason, hour, day, host
        }

        /// One value of the key.
        public struct Row: Codable, Sendable, Equatable {
            /// The value: an address, a domain, a reason, a time in ISO 8601, the MTA's host name.
            public var value: String
            /// Refused, put off or observed.
            public var count: Int
            /// In percent of all.
            public var share: Double
        }

        /// What was asked for.
        public var key: Key
        /// Most frequent first; those of a time in its order.
        public var rows: [Row]
        /// What is in none of the rows.
        public var others: Int
    }

    /// A refused recipient close to a listed one.
    public struct NearMiss: Codable, Sendable, Equatable {
        /// As it was given.
        public var recipient: String
        /// The listed one that it resembles: found by asking the index for variations of the refused one.
        public var resembles: String
        /// How it differs: `1 letter left out`, `2 letters swapped`, `name order`, `domain`, …
        public var difference: String
        /// How often it was refused.
        public var count: Int
        /// From how many senders; never more than the refusals.
        public var senders: Int
        /// Whether `senders` is an estimate: beyond some number, different senders aren't counted one by one.
        public var sendersEstimated = false
        /// The first time in the period.
        public var first: Date
        /// The last time in the period.
        public var last: Date

        enum CodingKeys: String, CodingKey {
            case recipient, resembles, difference, count, senders
            case sendersEstimated = "senders_estimated"
            case first, last
        }
    }

    /// A recipient that was refused and is listed now.
    public struct ListedNow: Codable, Sendable, Equatable {
        /// As it was given.
        public var recipient: String
        /// How often it was refused.
        public var count: Int
        /// The first refusal in the period.
        public var first: Date
        /// The last refusal in the period.
        public var last: Date
        /// When the first index that listed it, as far as is known, came into force; nil if it isn't known.
        public var listed: Date?
        /// Seconds from the first refusal to `listed`, or to the last refusal where that isn't known: how late the sync was at
        /// least.
        public var late: Int
    }

    /// A sender of a relay domain that the index doesn't list, though a trusted client has sent mail of it: its mailbox exists, and the answers
    /// to its mail are refused.
    public struct UnlistedSender: Codable, Sendable, Equatable {
        /// Its canonical address, without tags of VERP, SRS and BATV.
        public var address: String
        /// How many messages it has sent, as long as the log has known it.
        public var count: Int
        /// The last day on which it sent (UTC), such as `2026-11-30`.
        public var last: String
    }

    /// A network that guessed recipients.
    public struct Harvest: Codable, Sendable, Equatable {
        /// `192.0.2.0/24` or `2001:db8::/64`.
        public var network: String
        /// The newest host name of one of its clients, empty if there is none.
        public var name: String
        /// How many clients of it took part.
        public var clients: Int
        /// How many different unknown recipients it tried; never more than the attempts.
        public var recipients: Int
        /// Whether `recipients` is an estimate: beyond some number, different recipients aren't counted one by one.
        public var recipientsEstimated = false
        /// How many attempts it made, those that were put off for it included.
        public var attempts: Int
        /// The first attempt in the period.
        public var first: Date
        /// The last attempt in the period.
        public var last: Date
        /// How many attempts the harvest limit answered with 421; 0 where nothing stopped it.
        public var stopped: Int
        /// Whether a recipient was accepted from it since the beginning of the period; nil where the log doesn't know.
        public var accepted: Bool?

        enum CodingKeys: String, CodingKey {
            case network, name, clients, recipients
            case recipientsEstimated = "recipients_estimated"
            case attempts, first, last, stopped, accepted
        }
    }

    /// A sender who keeps writing to a recipient that doesn't exist.
    public struct Correspondent: Codable, Sendable, Equatable {
        /// The reverse-path.
        public var sender: String
        /// The recipient.
        public var recipient: String
        /// On how many days.
        public var days: Int
        /// How often.
        public var count: Int
        /// The first time in the period.
        public var first: Date
        /// The last time in the period.
        public var last: Date
    }

    /// A reply by which the MTA refused recipients without asking Postern.
    public struct MTAReply: Codable, Sendable, Equatable {
        /// Its text with addresses left out, so that equals come together.
        public var reply: String
        /// How often.
        public var count: Int
    }

    /// How the list of recipients did.
    public struct SyncHealth: Codable, Sendable, Equatable {
        /// A source of the list.
        public struct Source: Codable, Sendable, Equatable {
            /// Its name in the configuration.
            public var name: String
            /// How many recipients it lists.
            public var recipients: Int
            /// When it was last known to be right.
            public var asOf: Date?
            /// Why it could not be read the last time; nil if it could.
            public var failure: String?

            enum CodingKeys: String, CodingKey {
                case name, recipients
                case asOf = "as_of"
                case failure
            }

            /// A source; `failure` is nil where it could be read.
            public init(name: String, recipients: Int, asOf: Date?, failure: String?) {
                self.name = name
                self.recipients = recipients
                self.asOf = asOf
                self.failure = failure
            }
        }

        /// A list that the guards refused, and that no other has replaced.
        public struct Refused: Codable, Sendable, Equatable {
            /// When.
            public var time: Date
            /// Why.
            public var text: String
            /// How many recipients would have gone.
            public var removed: Int
            /// True where `postern sync --accept-shrink` lets it pass.
            public var acceptable: Bool

            /// A refused list.
            public init(time: Date, text: String, removed: Int, acceptable: Bool) {
                self.time = time
                self.text = text
                self.removed = removed
                self.acceptable = acceptable
            }
        }

        /// An index that came into force in the period.
        public struct Change: Codable, Sendable, Equatable {
            /// When.
            public var time: Date
            /// Its generation.
            public var generation: Int
            /// How many recipients it holds.
            public var recipients: Int
        }

        /// The date of the index in force; nil where there is none.
        public var created: Date?
        /// Its recipients.
        public var recipients = 0
        /// Its age in seconds at the time of the report.
        public var age = 0
        /// How many seconds its date lies in the future; 0 where it doesn't, or no more than clocks differ by.
        public var ahead = 0
        /// True where the age is over `index.max_age`, or not known because the date lies in the future.
        public var isStale = false
        /// The sources, where the sync runs on this machine; else empty.
        public var sources: [Source] = []
        /// A refused list.
        public var refused: Refused?
        /// The newest indexes of the period, oldest first.
        public var changes: [Change] = []

        /// Of no index and no sources.
        public init() {}

        enum CodingKeys: String, CodingKey {
            case created, recipients, age, ahead
            case isStale = "stale"
            case sources, refused, changes
        }
    }

    /// How far the lists go, which aren't made from the exact counters.
    public struct Coverage: Codable, Sendable, Equatable {
        /// Since when all detail rows are there; nil where none was pruned yet. Before it lists go by whole days (UTC), and a cut
        /// to a client has nothing.
        public var detailsSince: Date?
        /// True where the period begins or ends within a day whose detail rows are gone: lists hold the days that are in it for
        /// the most part.
        public var wholeDays = false
        /// Refusals of the period's days whose recipients weren't among the most frequent of their day: in no list.
        public var folded = 0
        /// True where the index was not asked for every near miss that there may be.
        public var lookupsExhausted = false

        enum CodingKeys: String, CodingKey {
            case detailsSince = "details_since"
            case wholeDays = "whole_days"
            case folded
            case lookupsExhausted = "lookups_exhausted"
        }
    }

    /// Something to look at.
    public struct Finding: Codable, Sendable, Equatable {
        /// How pressing it is.
        public enum Level: String, Codable, Sendable {
            /// Mail that should have come is refused, or the filter doesn't work as it should.
            case problem
            /// Worth a look.
            case notice
        }

        /// How pressing it is.
        public var level: Level
        /// A word for programs: `unlisted-senders`, `sync-refused`, `source-failing`, `index-stale`, `tempfailed`, `late-sync`, `near-misses`,
        /// `harvest`, `correspondents`, `observed`, `mta`, `thinned`, `surge`.
        public var code: String
        /// What was found, one sentence.
        public var text: String
        /// What to do about it, one sentence; a command where there is one.
        public var action: String
    }
}
