import Foundation

/// Something that recipients are read from: it gives its whole list, or what has changed in it since it was last read, or says
/// that nothing has.
protocol RecipientSource: Sendable {
    var configuration: SourceConfiguration { get }

    /// The relay domains that the source names; nil if it isn't asked for any. Read before any source is pulled, as they decide
    /// what each may list.
    func relayDomains(_ request: PullRequest) throws(SyncError) -> [RelayDomain]?

    /// Reads the source into the intake.
    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SyncError) -> Pull

    /// Whether all of it should be read again, lest a change that was missed stays missed.
    func isReconciliationDue(_ record: SourceRecord, now: Date) -> Bool

    /// A socket that becomes readable when the source has something to tell that ``hasNews()`` hasn't seen; nil while it tells
    /// nothing by itself.
    var newsDescriptor: Int32? { get }

    /// Takes in what the source tells, without waiting; whether it is worth a pull.
    func hasNews() -> Bool

    /// Ends connections that would go on.
    func hangUp()

    /// Ends what a pull waits for, from any thread and without waiting; the pull fails, or gives up at its next check.
    func interrupt()

    /// Until when the source isn't tried again, whatever the schedule says; nil for a source that doesn't keep from it.
    var restsUntil: ContinuousClock.Instant? { get }
}

extension RecipientSource {
    func relayDomains(_ request: PullRequest) throws(SyncError) -> [RelayDomain]? { nil }
    func isReconciliationDue(_ record: SourceRecord, now: Date) -> Bool { false }
    var newsDescriptor: Int32? { nil }
    func hasNews() -> Bool { false }
    func hangUp() {}
    func interrupt() {}
    var restsUntil: ContinuousClock.Instant? { nil }
}

/// What a pull may build on.
struct PullRequest {
    /// What the state knows of the source, if that was read under the same configuration.
    var previous: SourceRecord?
    /// Whether a thread goes on afterwards, for which a connection may be kept that tells of changes.
    var isStaying = false
    /// Whether to read all of it, whatever is known.
    var readsAll = false
    /// Whether the source has told that something has changed, rather than its time having come.
    var isNews = false
    /// Whether a person accepts what a source refuses by itself, such as a search reference that is new.
    var acceptsReferences = false
    /// Called now and then; throws to give up.
    var check: () throws(SyncError) -> Void
}

/// What a pull came to.
struct Pull {
    /// `full`: the intake holds the whole list; `changes`: it holds what replaces some objects of the list in the state;
    /// `unchanged`: the list in the state is still right.
    var reading: SourceReport.Reading
    /// When the source was as it was read.
    var asOf: Date
    /// What the next pull goes on from; kept in the state together with the entries that belong to it.
    var cursor: Data?
}

/// A relay domain that a source names.
struct RelayDomain: Codable, Equatable, Sendable {
    /// The A-label; one that begins with a dot stands for the sub-domains.
    var name: String
    /// Whether recipients that nobody lists are known elsewhere, so that all are accepted.
    var takesAll: Bool
}

/// The domains that one source may feed.
struct DomainFilter: Sendable {
    private let relay: DomainSet
    private let own: DomainSet?

    init(relay: DomainSet, _ source: SourceConfiguration, subdomains: Bool) {
        self.relay = relay
        own = source.domains.map { DomainSet($0, subdomains: subdomains) }
    }

    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { relay.contains(domain) }

    func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        relay.contains(domain) && (own?.contains(domain) ?? true)
    }
}
