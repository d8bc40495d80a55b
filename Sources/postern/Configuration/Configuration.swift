import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// The configuration file, read and checked, with its defaults filled in. All paths are absolute.
struct Configuration: Sendable {
    /// Where commands look for the file without `--config`.
    static let defaultPath = "/etc/postern/postern.toml"

    /// The file that was read.
    let file: String
    /// The lines of its keys.
    let lines: ConfigurationLines
    /// The configuration file and the tables of `relay.domains_from`, in the state in which they were read.
    var stamps: [ConfigurationStamp] = []

    var socket: MilterSocket
    var socketMode: UInt32
    /// The number of connections that the MTA may have open at once.
    var maximumConnections: Int
    /// Whether the running filter reads the configuration again by itself when it has changed.
    var reloadsByItself: Bool

    /// The relay domains with the key that each comes from.
    var domains: [RelayDomain] = []
    /// The relay domains of each table of `relay.domains_from`, by its path.
    var relayTables: [String: [String]] = [:]
    /// Whether the relay domains that the index names, which sources read from a directory, are relay domains too.
    var relaysIndexDomains = false
    /// The rules of the `[[domain]]` tables whose domains only the index may name.
    var rulesOfIndexDomains: [String: DomainSettings] = [:]
    /// The rules of a domain without a `[[domain]]` table.
    var rules = DomainSettings()
    /// The policy without the relay domains.
    var policy = Policy.Settings()

    var index: Index
    var sync: Sync
    var log: Log
    var http: HTTP
    /// Files of sources that can't be read now. `config check` reports them as faults; for the sync thread the source
    /// failed.
    var sourceFaults: [ConfigurationFault] = []
    /// Warnings, one line each: what is accepted and perhaps not intended.
    var notices: [String] = []

    /// The folders of the files that the filter and the sync write.
    var writtenFolders: [String] {
        let files = [log.database] + (sync.sources.isEmpty ? [] : [sync.state, index.path])
        return files.map { folder(of: $0) }
    }

    /// One relay domain.
    struct RelayDomain: Sendable {
        /// The A-label.
        let name: String
        /// The key that names it: `relay.domains`, or `relay.domains_from` with the table.
        let key: String
        var rules: DomainSettings
        /// The source whose table makes it an alias; nil where the configuration does.
        var aliasSource: String?
    }

    /// The settings of `[index]`.
    struct Index: Sendable {
        var path: String
        /// In seconds; 0 for no limit.
        var maximumAge: Int
    }

    /// The settings of `[sync]`, and the sources. Times are in seconds.
    struct Sync: Sendable {
        var state: String
        var interval: Int
        /// A fraction of 1.
        var maximumShrink: Double
        var shrinkWindow: Int
        var grace: Int
        var minimum: Int
        /// Canonical addresses.
        var canaries: [String]
        /// The time that reading one source may take.
        var deadline: Int
        var sources: [SourceConfiguration] = []
    }

    /// The settings of `[log]`. Times are in seconds.
    struct Log: Sendable {
        var database: String
        var retention: Int
        /// Whether the filter writes a line for each rejection.
        var lines: Bool
        /// Whether these lines and the live page hide local parts.
        var redact: Bool
        /// The retention limits it where it is longer.
        var detailRetention: Int
        /// In bytes; 0 for no limit.
        var maximumSize: Int
    }

    /// The settings of `[http]`.
    struct HTTP: Sendable {
        /// Where metrics and the live page are served; nil for nowhere.
        var listen: HostAndPort?
    }

    /// The settings of the sections whose keys are independent of each other; the rest is at its defaults.
    init(
        file: String, lines: ConfigurationLines, milter: ConfigurationTable<MilterKeys>,
        index: ConfigurationTable<IndexKeys>, sync: ConfigurationTable<SyncKeys>, log: ConfigurationTable<LogKeys>,
        http: ConfigurationTable<HTTPKeys>
    ) {
        self.file = file
        self.lines = lines
        socket = milter.value(\.socket)
        socketMode = milter.value(\.socketMode)
        maximumConnections = milter.value(\.maximumConnections)
        reloadsByItself = milter.value(\.reload)
        self.index = Index(path: index.value(\.path), maximumAge: index.value(\.maximumAge))
        self.sync = Sync(
            state: sync.value(\.state), interval: sync.value(\.interval), maximumShrink: sync.value(\.maximumShrink),
            shrinkWindow: sync.value(\.shrinkWindow), grace: sync.value(\.grace), minimum: sync.value(\.minimum),
            canaries: sync.value(\.canaries), deadline: sync.value(\.deadline))
        self.log = Log(
            database: log.value(\.database), retention: log.value(\.retention), lines: log.value(\.lines),
            redact: log.value(\.redact), detailRetention: log.value(\.detailRetention),
            maximumSize: log.value(\.maximumSize))
        self.http = HTTP(listen: http.value(\.listen))
    }
}

extension Configuration {
    /// The configuration with those settings of another that only a restart can change, and the keys of those that
    /// differ.
    func keepingRestartSettings(of other: Configuration) -> (Configuration, differing: [String]) {
        var kept = self
        var differing: [String] = []
        func keep<Value: Equatable>(_ path: WritableKeyPath<Configuration, Value>, _ key: String) {
            if self[keyPath: path] != other[keyPath: path] { differing.append(key) }
            kept[keyPath: path] = other[keyPath: path]
        }
        keep(\.socket, "milter.socket")
        keep(\.socketMode, "milter.socket_mode")
        keep(\.maximumConnections, "milter.max_connections")
        keep(\.index.path, "index.path")
        keep(\.log.database, "log.database")
        keep(\.log.retention, "log.retention")
        keep(\.log.lines, "log.lines")
        keep(\.log.redact, "log.redact")
        keep(\.http.listen, "http.listen")
        keep(\.log.detailRetention, "log.detail_retention")
        keep(\.log.maximumSize, "log.max_size")
        return (kept, differing)
    }
}
