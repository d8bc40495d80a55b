package import Foundation
package import RecipientIndex

/// A source of recipients: a table, the output of a program, a directory.
///
/// A new kind of source is a type that conforms to this protocol. It is registered by a case of
/// ``SourceConfiguration/Kind``, which holds its settings; the compiler then asks for a line in each switch over the
/// kind: `type` and `source(folder:)` in this file, `stamp` in SyncThread.swift, `files` in
/// ConfigurationReader+Sources.swift. There, `SourceTable` reads its keys by `type`, which is a case of `SourceType`
/// (SourceKeys.swift). Its keys also go into the array `SourceKeys.kinds`: the compiler doesn't ask for that, and
/// without it the sample and the manual lack the kind.
///
/// ``read(_:into:report:)`` runs on a thread of the source's own, one reading at a time; ``relayDomains(_:)`` runs on
/// the thread of the sync, never during a reading. Other members may be called on any thread, also during a reading. A
/// source keeps nothing that the next reading needs but connections: it returns a cursor, which is stored with the
/// list, and is given it again.
package protocol RecipientSource: Sendable {
    /// The source's settings.
    var configuration: SourceConfiguration { get }

    /// The relay domains that the source names; nil if it isn't configured to name any.
    ///
    /// Asked before any source is read, as the domains decide which recipients each source may list.
    func relayDomains(_ request: ReadRequest) throws(SourceError) -> [RelayDomain]?

    /// Reads the source.
    ///
    /// The recipients go into the entries in any order, after ``SourceEntries/begin(changesOnly:)``. The source either
    /// adds its whole list, or, where the request has a previous reading whose cursor it can go on from, names the
    /// objects that have changed since (``SourceEntries/replace(_:)``) and adds what these list now. It counts in the
    /// report the entries that it leaves out. It calls ``ReadRequest/check`` at least once a second.
    ///
    /// - Returns: how the source was read, and the cursor for the next reading.
    /// - Throws: `SourceError` of kind `unreachable` if another try may help, `malformed` if the source's owner has to
    ///   correct it, and the errors of ``ReadRequest/check`` and ``SourceEntries/failure``. The last list then stays.
    func read(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(SourceError) -> SourceResult

    /// Whether the whole source should be read again though changes are followed, in case a change was missed.
    func isReconciliationDue(_ previous: PreviousReading, now: Date) -> Bool

    /// A socket that becomes readable when the source reports changes that ``hasReportedChanges()`` hasn't seen; nil if
    /// the source doesn't report any.
    var changeDescriptor: Int32? { get }

    /// Receives the reports of changes that have come, without waiting; whether the source should be read now.
    func hasReportedChanges() -> Bool

    /// Closes connections that were kept for the next reading.
    func closeConnections()

    /// Ends the waiting of a reading, without waiting for its end: it fails at its next check at the latest.
    func interrupt()

    /// Where the source lists a key, such as `line 17 of /etc/postfix/virtual`; nil if that isn't known.
    ///
    /// - Parameter object: the object that lists the key; empty for a line of a table.
    func origin(of key: String, object: Data) -> String?

    /// The time before which the source isn't read again, whatever the schedule says; nil if there is none.
    var earliestRetry: ContinuousClock.Instant? { get }
}

extension RecipientSource {
    package func relayDomains(_ request: ReadRequest) throws(SourceError) -> [RelayDomain]? { nil }
    package func isReconciliationDue(_ previous: PreviousReading, now: Date) -> Bool { false }
    package var changeDescriptor: Int32? { nil }
    package func hasReportedChanges() -> Bool { false }
    package func closeConnections() {}
    package func interrupt() {}
    package func origin(of key: String, object: Data) -> String? { nil }
    package var earliestRetry: ContinuousClock.Instant? { nil }

    /// An error of kind `unreachable` whose text begins with the source's name.
    func failure(_ text: String) -> SourceError { .unreachable(source: configuration.name, text) }
}

extension Encodable {
    /// The stored form of a cursor: the same value always gives the same bytes.
    var encodedCursor: Data? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return try? encoder.encode(self)
    }
}

/// How a source is to be read.
package struct ReadRequest {
    /// The last reading, if the source was configured then as it is now.
    package var previous: PreviousReading?
    /// Whether more readings follow in this process, for which a connection may be kept that reports changes.
    package var keepsConnections: Bool
    /// Whether to read the whole source even if its changes would be enough.
    package var readsAll: Bool
    /// Whether the source is read because it has reported a change, rather than because its time has come.
    package var hasReportedChange: Bool
    /// Whether a person accepts search references that the last list was read without.
    package var acceptsNewReferences: Bool
    /// Asks whether to go on; throws to end the reading.
    package var check: () throws(SourceError) -> Void

    package init(
        previous: PreviousReading? = nil, keepsConnections: Bool = false, readsAll: Bool = false,
        hasReportedChange: Bool = false,
        acceptsNewReferences: Bool = false, check: @escaping () throws(SourceError) -> Void
    ) {
        self.previous = previous
        self.keepsConnections = keepsConnections
        self.readsAll = readsAll
        self.hasReportedChange = hasReportedChange
        self.acceptsNewReferences = acceptsNewReferences
        self.check = check
    }
}

/// The outcome of the last successful reading of a source, as the sync stores it.
package struct PreviousReading {
    /// The cursor that the reading returned.
    package var cursor: Data?
    /// The report of the reading.
    package var report: SourceReport?
    /// The relay domains that the source named; nil if it wasn't asked for any.
    package var domains: [RelayDomain]?

    package init(cursor: Data?, report: SourceReport?, domains: [RelayDomain]?) {
        self.cursor = cursor
        self.report = report
        self.domains = domains
    }
}

/// The outcome of a reading.
package struct SourceResult {
    /// How the source was read. `full`: the entries are its whole list; `changes`: they replace some objects of the
    /// last list; `unchanged`: the last list is still right.
    package var reading: SourceReport.Reading
    /// The time at which the list was right: the beginning of the reading.
    package var asOf: Date
    /// Where the next reading goes on; stored together with the list.
    package var cursor: Data?

    package init(reading: SourceReport.Reading, asOf: Date, cursor: Data? = nil) {
        self.reading = reading
        self.asOf = asOf
        self.cursor = cursor
    }
}

/// Why a source could not be read.
public struct SourceError: Error, Sendable, CustomStringConvertible {
    /// The class of a failure.
    public enum Kind: Sendable {
        /// The source can't be read now; trying again may help.
        case unreachable
        /// The source holds lines or values that can't be understood; its owner has to correct them.
        case malformed
        /// A temporary file for entries could not be written or read.
        case temporaryFile
        /// The configuration asks for something impossible.
        case configuration
        /// The sync was stopped.
        case cancelled
    }

    /// The class of the failure.
    public let kind: Kind
    /// One or more sentences for a postmaster, one a line.
    public let description: String
    /// The name of the source at fault.
    public let source: String?
    /// What a person can do, where the description doesn't say.
    public let advice: String?

    /// A failure to read a source.
    package init(_ kind: Kind, _ description: String, source: String? = nil, advice: String? = nil) {
        self.kind = kind
        self.description = description
        self.source = source
        self.advice = advice
    }

    /// An error of kind `unreachable` whose text begins with the source's name.
    static func unreachable(source: String, _ text: String) -> SourceError {
        SourceError(.unreachable, "source \"\(source)\": \(text)", source: source)
    }
}

/// The settings of one source: a `[[source]]` of the configuration file.
public struct SourceConfiguration: Sendable, Codable, Equatable {
    /// The kinds of sources with their settings. ``RecipientSource`` says where a new kind needs a line.
    public enum Kind: Sendable, Codable, Equatable {
        /// A table in source text, read whole whenever it has changed.
        case file(format: TableFormat, path: String)
        /// The standard output of a program, read at every interval.
        case command(CommandConfiguration)
        /// A directory server.
        case directory(DirectoryConfiguration)
    }

    /// The name, unique among the sources; the state finds a source by it.
    public var name: String
    /// The kind of the source with its settings.
    public var kind: Kind
    /// The A-labels of the domains whose recipients it may list; nil for all relay domains.
    public var domains: Set<String>?

    /// A source of this name and kind that may list recipients of these domains.
    public init(name: String, kind: Kind, domains: Set<String>? = nil) {
        self.name = name
        self.kind = kind
        self.domains = domains
    }

    /// The `type` key of the configuration file.
    public var type: String {
        switch kind {
        case .file: "file"
        case .command: "command"
        case .directory(let directory): directory.dialect.rawValue
        }
    }

    /// A source that can be read.
    ///
    /// - Parameter folder: where temporary files with addresses may be written.
    package func source(folder: String) -> any RecipientSource {
        switch kind {
        case .file(let format, let path): FileSource(self, format: format, path: path)
        case .command(let command): CommandSource(configuration: self, command: command, folder: folder)
        case .directory(let directory): DirectorySource(self, directory)
        }
    }
}
