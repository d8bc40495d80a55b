/// The sections of the configuration file.
struct FileKeys: ConfigurationKeys {
    let milter = ConfigurationKey(
        "milter", .table(MilterKeys()), default: [:],
        explanation: "The socket on which the MTA asks the filter.")
    let relay = ConfigurationKey(
        "relay", .table(RelayKeys()), default: [:],
        explanation: "The domains that this gateway relays mail for, and the clients that may relay to all others.")
    let recipients = ConfigurationKey(
        "recipients", .table(RecipientKeys()), default: [:],
        explanation: "Recipients that are accepted or rejected whatever the sources list, and how addresses are read.")
    let policy = ConfigurationKey(
        "policy", .table(PolicyKeys()), default: [:], explanation: "How recipients are judged.")
    let domain = ConfigurationKey(
        "domain", .tables(DomainKeys()), default: [],
        explanation: "Settings of one domain, one table for each domain.")
    let harvest = ConfigurationKey(
        "harvest", .table(HarvestKeys()), default: [:],
        explanation: "The limit for clients that guess recipients (directory harvest attacks).")
    let replies = ConfigurationKey(
        "replies", .table(ReplyKeys()), default: [:],
        explanation: """
            The replies to the client. {recipient}, {domain} and {client} are replaced. The first digit of the codes
            must fit the verdict: 5 to reject, 4 to defer.
            """)
    let index = ConfigurationKey(
        "index", .table(IndexKeys()), default: [:],
        explanation: "The recipient index: the file that the sync writes and the filter answers from.")
    let sync = ConfigurationKey(
        "sync", .table(SyncKeys()), default: [:],
        explanation: "How the recipient index is kept up to date, and which changes Postern doesn't accept by itself.")
    let source = ConfigurationKey(
        "source",
        .tables(kinds: SourceKeys.kinds) { members, path, context in SourceTable(members, path: path, context: context)
        },
        default: [],
        explanation: "Where the recipients come from, one table for each source. Its keys depend on its type.")
    let log = ConfigurationKey(
        "log", .table(LogKeys()), default: [:],
        explanation: "The rejection log, from which postern report and postern log are made.")
    let http = ConfigurationKey(
        "http", .table(HTTPKeys()), default: [:], explanation: "Metrics for Prometheus and the live page.")
}

struct MilterKeys: ConfigurationKeys {
    let socket = ConfigurationKey(
        "socket", .milterSocket, default: "inet:8891@127.0.0.1", isSetInSample: true, needsRestart: true,
        explanation: "The socket that the MTA connects to: inet:PORT@HOST, inet6:PORT@HOST or unix:/PATH.")
    let socketMode = ConfigurationKey(
        "socket_mode", .fileMode, default: "0660", needsRestart: true,
        explanation: "The permissions of a unix socket. The MTA's user needs the right to write.")
    let maximumConnections = ConfigurationKey(
        "max_connections", .integer(1...1_000_000), default: 10_000, needsRestart: true,
        explanation: """
            The number of connections that the MTA may have open at once. The recipients of further connections are
            deferred.
            """)
    let reload = ConfigurationKey(
        "reload", .choice(["signal": false, "auto": true]), default: "signal",
        explanation: """
            When the running filter reads this file again: at postern reload or SIGUSR1 ("signal"), or also when the
            file has changed ("auto").
            """)
}

struct IndexKeys: ConfigurationKeys {
    let path = ConfigurationKey(
        "path", .path, default: "/var/lib/postern/recipients.index", needsRestart: true,
        explanation: "The file of the recipient index.")
    let maximumAge = ConfigurationKey(
        "max_age", .duration(), default: "7d",
        explanation: #"The age from which policy.index_stale holds. "0s" for no limit."#)
}

struct SyncKeys: ConfigurationKeys {
    let state = ConfigurationKey(
        "state", .path, default: "/var/lib/postern/sync.sqlite",
        explanation: "The database in which the sync keeps the recipients of each source.")
    let interval = ConfigurationKey(
        "interval", .duration(from: 1), default: "5m", explanation: "The time between two syncs.")
    let maximumShrink = ConfigurationKey(
        "max_shrink", .percentage, default: "10%",
        explanation: """
            The share of recipients that may leave the list within shrink_window: of all, of each source and of each
            domain. Postern rejects a sync that would remove more, and keeps the old recipient index.
            """)
    let shrinkWindow = ConfigurationKey(
        "shrink_window", .duration(), default: "24h", explanation: "The time over which max_shrink counts.")
    let grace = ConfigurationKey(
        "grace", .duration(), default: "10m",
        explanation: """
            The time for which a recipient that has left the list is deferred before it is rejected. "0s" to reject
            it at once.
            """)
    let minimum = ConfigurationKey(
        "minimum", .integer(0...Int.max), default: 1,
        explanation: """
            The number of recipients that a recipient index must have. Postern rejects a sync that would leave fewer.
            """)
    let canaries = ConfigurationKey(
        "canaries", .list(of: .address(example: "ceo@example.com"), example: ["ceo@example.com"]), default: [],
        example: ["ceo@example.com"],
        explanation: "Recipients that every recipient index must have. Postern rejects a sync in which one is missing.")
    let deadline = ConfigurationKey(
        "deadline", .duration(from: 1), default: "30m",
        explanation: "The time that reading one source may take. After it, the last list of the source is kept.")
}

struct LogKeys: ConfigurationKeys {
    let database = ConfigurationKey(
        "database", .path, default: "/var/lib/postern/rejections.sqlite", needsRestart: true,
        explanation: "The database of the rejection log.")
    let retention = ConfigurationKey(
        "retention", .duration(from: 3600), default: "90d", needsRestart: true,
        explanation: "The time for which the figures and lists of reports are kept.")
    let lines = ConfigurationKey(
        "lines", .boolean, default: true, needsRestart: true,
        explanation: """
            Whether postern serve writes a line for each rejection to standard error, as Postfix does in its log.
            """)
    let redact = ConfigurationKey(
        "redact", .boolean, default: false, needsRestart: true,
        explanation: "Whether these lines and the live page hide local parts.")
    let detailRetention = ConfigurationKey(
        "detail_retention", .duration(from: 3600), default: "30d", needsRestart: true,
        explanation: "The time for which each rejection is kept with its details. It is at most log.retention.")
    let maximumSize = ConfigurationKey(
        "max_size", .size(from: 1 << 20, allowsNone: true), default: "4GiB", needsRestart: true,
        explanation: #"The size of the database above which the oldest details are removed early. "0" for no limit."#)
}

struct HTTPKeys: ConfigurationKeys {
    let listen = ConfigurationKey(
        "listen", .listenAddress, default: "", example: "127.0.0.1:8892", isSetInSample: true, needsRestart: true,
        explanation: """
            The address on which metrics (/metrics), health (/healthz, /readyz) and the live page (/) are served. ""
            for none. Whoever can connect sees the newest rejections.
            """)
}
