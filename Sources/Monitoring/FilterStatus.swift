import Foundation
import RecipientIndex
import RecipientSync

/// The state of a running filter and its parts at a moment.
///
/// ``FilterMonitor`` makes it; metrics, the live page, `/readyz` and `postern status` show it. Its JSON goes over the ``ControlSocket``.
package struct FilterStatus: Codable, Sendable {
    /// SMTP sessions.
    struct Sessions: Codable {
        var open: Int
        /// The sessions since the start.
        var total: Int
    }

    /// The connections of MTAs.
    struct Connections: Codable {
        var open: Int
        /// The most that may be open.
        var limit: Int
        /// The connections over the limit since the start whose recipients were deferred.
        var deferred: Int
        /// The connections closed at once since the start.
        var dropped: Int
        /// The connections closed since the start because a packet didn't arrive completely in time.
        var expired: Int
    }

    /// What the sync thread does now and next.
    struct SyncOutlook: Codable {
        /// When the running sync began; nil between two syncs.
        var runningSince: Date?
        /// When all sources are read next.
        var next: Date?
        /// The sources that are being read.
        var running: [SourceProgress]?
    }

    /// The snapshot in use, or the one in the index file.
    struct Index: Codable {
        /// The index file.
        var path: String
        /// When its list was last known to be current.
        var created: Date
        var generation: UInt64
        /// The number of recipients.
        var recipients: Int
        /// The number of recipients and catch-all domains that have left the list and are deferred before they are rejected.
        var leaving: Int
        var catchAllDomains: Int
        /// The number of relay domains that the index itself names.
        var relayDomains: Int
        /// The bytes of the file.
        var size: Int

        init(_ info: IndexInfo, path: String) {
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

    /// The rejection log.
    struct Log: Codable {
        /// The bytes of log entries that wait to be written.
        var queued: Int
        /// The most bytes that may wait.
        var queueCapacity: Int
        /// The rows written since the start.
        var written: Int
        /// The rows left out since the start because the queue was full. Their recipients are counted all the same.
        var thinned: Int
        /// The recipients that are counted in memory and not yet in the database.
        var waiting: Int
        /// Whether the database can't be written.
        var failing: Bool
        /// The path of the last damaged database, which the log replaced by a new one.
        var damagedCopy: String?
    }

    /// Harvest limits and tarpit.
    struct Harvest: Codable {
        /// The client networks whose unknown recipients are counted.
        var networks: Int
        /// The client networks that have reached their limit since the start.
        var offenders: Int
        /// The recipients that the tarpit delays now.
        var held: Int
    }

    /// Postern's version.
    var version: String
    /// The process ID.
    var process: Int
    /// The user ID of the process.
    var user: Int
    /// When the filter was started.
    var started: Date
    /// The milter's socket.
    var socket: String
    /// `enforce`, `observe`, or a text that names both if the domains differ.
    var mode: String
    /// The number of relay domains.
    var domains: Int
    var sessions: Sessions
    var connections: Connections
    /// The parts of the filter, working or not.
    var parts: [ServiceHealth.Report]
    /// The messages that could not be written to standard error.
    var messagesDropped: Int
    /// nil without a sync thread.
    var syncOutlook: SyncOutlook?
    /// The snapshot in use; nil if there is none.
    var index: Index?
    /// Whether a source or `index.path` is configured, so that there should be an index.
    var indexExpected: Bool
    var log: Log
    var harvest: Harvest
    /// The number of senders of relay domains that the index doesn't list and that have sent through this gateway lately.
    var unlistedSenders: Int
    /// The address of the live page; nil if HTTP is off.
    var http: String?

    /// The notice about a filter that runs as root.
    package static let rootNotice =
        "running as root: Postern doesn't need root's rights; run it as a user of its own (User= in the unit)"
}
