public import RecipientSources

/// What a sync reads, what it may publish, and where it keeps its state.
public struct SyncConfiguration: Sendable {
    /// The sync state, an SQLite database that holds addresses in clear (mode 0600).
    public var statePath: String
    /// The published snapshot.
    public var indexPath: String
    /// How often sources are read though nothing tells of a change.
    public var interval: Duration
    /// The share of the recipients that may go within `shrinkWindow`: 0.1 is 10 %; of all, of each source and of each domain. One recipient
    /// may always go, or a list below ten could lose nobody, unless this is 0; all of a source or a domain may never go.
    public var maxShrink: Double
    /// Within which time what has gone counts for `maxShrink`; recipients that came back don't count.
    public var shrinkWindow: Duration = .seconds(86_400)
    /// How long a recipient that goes is deferred before it is rejected; zero: not at all.
    public var grace: Duration = .seconds(600)
    /// The fewest recipients that an index may hold, catch-all domains counted.
    public var minimum: Int
    /// Addresses that every new index must list by themselves; a catch-all doesn't count.
    public var canaries: [String]
    /// The age at which readers take the index for stale; an unchanged index is written again well before it.
    public var maxAge: Duration
    /// How long one source may be read; what takes longer is given up, and the source's last list stays in use.
    public var deadline: Duration
    /// A-labels; `.example.com` stands for the subdomains of example.com alone, as in Postfix.
    public var relayDomains: Set<String>
    /// Those among them that tables of the configuration list, by the path of the table: they are guarded, too.
    public var relayTables: [String: [String]] = [:]
    /// Domains whose recipients needn't be listed, A-labels: they take all by the configuration, or are aliases of others.
    public var domainsWithoutList: Set<String> = []
    /// The local parts, in canonical form, that every relay domain accepts.
    public var alwaysAccepted: Set<String> = []
    /// Whether a domain covers its subdomains.
    public var subdomains: Bool
    /// Merged in any order: a recipient goes when the last source that lists it drops it.
    public var sources: [SourceConfiguration]

    /// The configuration of the design's `[sync]`, `[index]`, `[relay]` and `[[source]]` sections.
    public init(
        statePath: String, indexPath: String, interval: Duration = .seconds(300), maxShrink: Double = 0.1,
        minimum: Int = 1, canaries: [String] = [], maxAge: Duration = .seconds(7 * 86_400), relayDomains: Set<String>,
        subdomains: Bool = false, deadline: Duration = .seconds(1_800), sources: [SourceConfiguration]
    ) {
        self.statePath = statePath
        self.indexPath = indexPath
        self.interval = interval
        self.maxShrink = maxShrink
        self.minimum = minimum
        self.canaries = canaries
        self.maxAge = maxAge
        self.deadline = deadline
        self.relayDomains = relayDomains
        self.subdomains = subdomains
        self.sources = sources
    }
}

extension DirectoryEnvironment {
    /// Prepares the process for reading the sources of a configuration; to be called by the main thread before it starts others.
    ///
    /// - Throws: `SyncError` of kind `configuration` if sources need different keytabs.
    public static func prepare(for configuration: SyncConfiguration) throws(SyncError) {
        try translatingErrors { () throws(SourceError) in try prepare(for: configuration.sources) }
    }
}
