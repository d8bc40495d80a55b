package import Foundation

/// Something that recipients are read from: it gives its whole list, or what has changed in it since it was last read, or says
/// that nothing has.
package protocol RecipientSource: Sendable {
    var configuration: SourceConfiguration { get }

    /// The relay domains that the source names; nil if it isn't asked for any. Read before any source is pulled, as they decide
    /// what each may list.
    func relayDomains(_ request: PullRequest) throws(SourceError) -> [RelayDomain]?

    /// Reads the source into the intake.
    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SourceError) -> Pull

    /// Whether all of it should be read again, lest a change that was missed stays missed.
    func isReconciliationDue(_ record: PreviousReading, now: Date) -> Bool

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
    package func relayDomains(_ request: PullRequest) throws(SourceError) -> [RelayDomain]? { nil }
    package func isReconciliationDue(_ record: PreviousReading, now: Date) -> Bool { false }
    package var newsDescriptor: Int32? { nil }
    package func hasNews() -> Bool { false }
    package func hangUp() {}
    package func interrupt() {}
    package var restsUntil: ContinuousClock.Instant? { nil }
}

/// What a pull may build on.
package struct PullRequest {
    /// What the source gave the last time, if that was read under the same configuration.
    package var previous: PreviousReading?
    /// Whether a thread goes on afterwards, for which a connection may be kept that tells of changes.
    package var isStaying = false
    /// Whether to read all of it, whatever is known.
    package var readsAll = false
    /// Whether the source has told that something has changed, rather than its time having come.
    package var isNews = false
    /// Whether a person accepts what a source refuses by itself, such as a search reference that is new.
    package var acceptsReferences = false
    /// Called now and then; throws to give up.
    package var check: () throws(SourceError) -> Void

    package init(
        previous: PreviousReading? = nil, isStaying: Bool = false, readsAll: Bool = false, isNews: Bool = false,
        acceptsReferences: Bool = false, check: @escaping () throws(SourceError) -> Void
    ) {
        self.previous = previous
        self.isStaying = isStaying
        self.readsAll = readsAll
        self.isNews = isNews
        self.acceptsReferences = acceptsReferences
        self.check = check
    }
}

/// What a source gave when it was last read, as the sync keeps it.
package struct PreviousReading {
    /// Where the reading ended; see ``Pull/cursor``.
    package var cursor: Data?
    /// How the reading went.
    package var report: SourceReport?
    /// The relay domains that the source named; nil where it isn't asked for any.
    package var domains: [RelayDomain]?

    package init(cursor: Data?, report: SourceReport?, domains: [RelayDomain]?) {
        self.cursor = cursor
        self.report = report
        self.domains = domains
    }
}

/// What a pull came to.
package struct Pull {
    /// `full`: the intake holds the whole list; `changes`: it holds what replaces some objects of the list in the state;
    /// `unchanged`: the list in the state is still right.
    package var reading: SourceReport.Reading
    /// When the source was as it was read.
    package var asOf: Date
    /// What the next pull goes on from; kept in the state together with the entries that belong to it.
    package var cursor: Data?

    package init(reading: SourceReport.Reading, asOf: Date, cursor: Data? = nil) {
        self.reading = reading
        self.asOf = asOf
        self.cursor = cursor
    }
}

/// A relay domain that a source names.
package struct RelayDomain: Codable, Equatable, Sendable {
    /// The A-label; one that begins with a dot stands for the sub-domains.
    package var name: String
    /// Whether recipients that nobody lists are known elsewhere, so that all are accepted.
    package var takesAll: Bool

    package init(name: String, takesAll: Bool) {
        self.name = name
        self.takesAll = takesAll
    }
}

/// The domains that one source may feed.
package struct DomainFilter: Sendable {
    private let relay: DomainSet
    private let own: DomainSet?

    package init(relay: DomainSet, _ source: SourceConfiguration, subdomains: Bool) {
        self.relay = relay
        own = source.domains.map { DomainSet($0, subdomains: subdomains) }
    }

    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { relay.contains(domain) }

    func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        relay.contains(domain) && (own?.contains(domain) ?? true)
    }
}
