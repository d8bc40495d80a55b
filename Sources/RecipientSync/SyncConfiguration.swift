public import RecipientSources

/// The settings of a sync: its sources, its guards, and where it keeps its state.
public struct SyncConfiguration: Sendable {
    /// The sync state, an SQLite database that holds addresses in clear (mode 0600).
    public var statePath: String
    /// The file of the recipient index.
    public var indexPath: String
    /// How often the sources are read though none reports a change.
    public var interval: Duration
    /// The share of the recipients that may go within `shrinkWindow`, of all, of each source and of each domain; 0.1 is 10 %. Unless this
    /// is 0, one recipient may always go: otherwise a list of fewer than ten could lose none. A source or domain may never lose all.
    public var maxShrink: Double
    /// How long a recipient that has gone counts for `maxShrink`; recipients that came back don't count.
    public var shrinkWindow: Duration = .seconds(86_400)
    /// How long a recipient that has gone is deferred before it is rejected; zero to reject it at once.
    public var grace: Duration = .seconds(600)
    /// The fewest recipients that an index may hold, counting catch-all domains.
    public var minimum: Int
    /// Addresses that every new index must list; a catch-all domain isn't enough.
    public var canaries: [String]
    /// The age at which readers take the index for stale; an unchanged index gets a new date well before.
    public var maxAge: Duration
    /// How long the reading of one source may take; then the sync ends it, and the source's last list stays in use.
    public var deadline: Duration
    /// The relay domains, as A-labels; `.example.com` stands for the subdomains of example.com alone, as in Postfix.
    public var relayDomains: Set<String>
    /// The relay domains that tables list (`relay.domains_from`), by the path of the table: the guards judge their loss.
    public var relayTables: [String: [String]] = [:]
    /// Domains whose recipients needn't be listed, as A-labels: catch-all domains of the configuration, and aliases of other domains.
    public var domainsWithoutList: Set<String> = []
    /// The local parts that every relay domain accepts, in canonical form.
    public var alwaysAccepted: Set<String> = []
    /// Whether a relay domain stands for its subdomains, too.
    public var subdomains: Bool
    /// The sources. A recipient goes when the last source that lists it drops it.
    public var sources: [SourceConfiguration]

    /// The settings of the sections `[sync]`, `[index]`, `[relay]` and `[[source]]` of the configuration file.
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
