package import Foundation
package import RecipientIndex
package import RecipientSync

/// What a running filter and its parts are doing at a moment.
///
/// The running filter makes it; metrics, the live page, `/readyz` and `postern status` show it. Its JSON goes over the ``ControlSocket``.
package struct FilterStatus: Codable, Sendable {
    /// SMTP sessions.
    package struct Sessions: Codable, Sendable {
        /// The open ones.
        package var open: Int
        /// All since the start.
        package var total: Int
    }

    /// The rejection log.
    package struct Log: Codable, Sendable {
        /// The bytes of log entries that wait to be written.
        package var queued: Int
        /// The bytes that may wait.
        package var queueCapacity: Int
        /// The rows written since the start.
        package var written: Int
        /// The rows left out since the start, for want of room in the queue. Their recipients are counted all the same.
        package var thinned: Int
        /// The recipients that are counted in memory, and not yet in the database.
        package var waiting: Int
        /// Whether the database can't be written.
        package var failing: Bool
        /// Where a damaged database was moved to last.
        package var damagedCopy: String?
    }

    /// Harvest limits and tarpit.
    package struct Harvest: Codable, Sendable {
        /// The client networks whose unknown recipients are counted.
        package var networks: Int
        /// The client networks that have reached their limit since the start.
        package var offenders: Int
        /// The recipients that the tarpit holds back.
        package var held: Int
    }

    /// The connections of MTAs.
    package struct Connections: Codable, Sendable {
        /// The open ones.
        package var open: Int
        /// The most that may be open.
        package var limit: Int
        /// Those over the limit since the start, whose recipients were deferred.
        package var deferred: Int
        /// Those closed at once since the start.
        package var dropped: Int
        /// Those ended since the start because a packet didn't arrive whole in time.
        package var expired: Int
    }

    /// What the sync thread does now and next.
    package struct SyncOutlook: Codable, Sendable {
        /// When the running sync began; nil between two.
        package var runningSince: Date?
        /// When all sources are read next.
        package var next: Date?
        /// The sources that are being read.
        package var running: [SourceProgress]?
    }

    /// The snapshot in use, or the one in the index file.
    package struct Index: Codable, Sendable {
        /// The index file.
        package var path: String
        /// When its list was known to be right.
        package var created: Date
        /// Its number.
        package var generation: UInt64
        /// The recipients.
        package var recipients: Int
        /// The recipients and catch-all domains that have left the list, and are deferred for a while before they are rejected.
        package var leaving: Int
        /// The catch-all domains.
        package var catchAllDomains: Int
        /// The relay domains that the index itself names.
        package var relayDomains: Int
        /// The bytes of the file.
        package var size: Int

        /// The status of a snapshot.
        package init(_ info: IndexInfo, path: String) {
            self.path = path
            created = info.created
            generation = info.generation
            recipients = info.recipients
            leaving = info.leaving
            catchAllDomains = info.catchAllDomains
            relayDomains = info.sources.filter { !$0.isRelayTable }.flatMap(\.relayDomains).count
            size = info.fileSize
        }
    }

    /// Postern's version.
    package var version: String
    /// The process's number.
    package var process: Int
    /// The number of the user that it runs as.
    package var user: Int
    /// When it was started.
    package var started: Date
    /// The milter's socket.
    package var socket: String
    /// `enforce`, `observe`, or both if the domains differ.
    package var mode: String
    /// The relay domains.
    package var domains: Int
    /// SMTP sessions.
    package var sessions: Sessions
    /// The connections of MTAs.
    package var connections: Connections
    /// The parts of the filter, and which of them work.
    package var parts: [ServiceHealth.Report]
    /// The messages that could not be written to standard error.
    package var messagesDropped: Int
    /// What the sync thread does; nil if there is none.
    package var syncOutlook: SyncOutlook?
    /// The snapshot in use; nil if there is none.
    package var index: Index?
    /// Whether recipients are deferred as long as there is no index.
    package var indexExpected: Bool
    /// The rejection log.
    package var log: Log
    /// Harvest limits and tarpit.
    package var harvest: Harvest
    /// The senders of relay domains that the index doesn't list, and that have sent through this gateway lately.
    package var unlistedSenders: Int
    /// The address of the live page; nil if HTTP is off.
    package var http: String?
}

extension FilterStatus {
    /// What to say about a filter that runs as root.
    package static let rootNotice =
        "running as root: Postern doesn't need root's rights; run it as a user of its own (User= in the unit)"
}
