import Foundation

/// The parts of the configuration that monitoring shows, and judges the filter by.
package struct MonitoringSettings: Sendable {
    /// Postern's version.
    package var version: String
    /// The milter's socket, such as `inet:8891@127.0.0.1`.
    package var socket: String
    /// `milter.max_connections`.
    package var maximumConnections: Int
    /// `enforce` or `observe`, as configured for all domains.
    package var mode: String
    /// `index.path`.
    package var indexPath: String
    /// `index.max_age` in seconds; 0 for no limit.
    package var maximumIndexAge: Int
    /// `sync.state`.
    package var syncState: String
    /// The names of the sources.
    package var sources: [String]
    /// `log.database`.
    package var logDatabase: String
    /// `log.redact`.
    package var redactsLog: Bool
    /// The address of the live page, such as `http://127.0.0.1:8892/`; nil if HTTP is off.
    package var http: String?
    /// What an administrator should know of the configuration though it is valid, a sentence each.
    package var notices: [String]

    /// The settings of a configuration.
    package init(
        version: String, socket: String, maximumConnections: Int, mode: String, indexPath: String, maximumIndexAge: Int,
        syncState: String, sources: [String], logDatabase: String, redactsLog: Bool, http: String?, notices: [String]
    ) {
        self.version = version
        self.socket = socket
        self.maximumConnections = maximumConnections
        self.mode = mode
        self.indexPath = indexPath
        self.maximumIndexAge = maximumIndexAge
        self.syncState = syncState
        self.sources = sources
        self.logDatabase = logDatabase
        self.redactsLog = redactsLog
        self.http = http
        self.notices = notices
    }

    /// The bytes of the rejection log, its write-ahead log included; 0 if there is none.
    package var logSize: Int {
        ["", "-wal"].reduce(0) { sum, suffix in
            var status = stat()
            return stat(logDatabase + suffix, &status) == 0 ? sum + Int(status.st_size) : sum
        }
    }
}
