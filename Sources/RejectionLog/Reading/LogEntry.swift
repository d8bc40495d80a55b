public import Foundation
import GRDB
public import System

/// A rejected, deferred or observed recipient. The texts come from the client: they are hostile until escaped.
public struct LogEntry: Sendable, Equatable {
    /// A number that grows in the order of writing, which is nearly the order of time.
    public var id: Int64
    /// The time, to the millisecond.
    public var time: Date
    /// ``Outcome/rejected`` or ``Outcome/deferred``.
    public var outcome: Outcome
    /// True where observe mode accepted the recipient.
    public var observed: Bool
    /// The reason; "mta" if the MTA itself rejected the recipient.
    public var reason: String
    /// The recipient as the client gave it.
    public var recipient: String
    /// The recipient's domain; empty if it has none, or if too many foreign domains came in the same minute.
    public var domain: String
    /// The reverse-path, empty for `<>`.
    public var sender: String
    /// The client's address in text form, empty if unknown.
    public var client: String
    /// The client's host name, as the MTA found it.
    public var clientName: String
    /// The name in HELO or EHLO.
    public var helo: String
    /// The queue id, or a session id.
    public var session: String
    /// True if the client was authenticated.
    public var authenticated: Bool
    /// The host name of the MTA that asked.
    public var mta: String
    /// The reply, with its codes.
    public var reply: String
}

extension RejectionReader {
    /// Filters of log entries; an entry must match all of them.
    public struct EntryQuery: Sendable {
        /// From this time on; nil: from the first entry.
        public var since: Date?
        /// Up to, not including, this time; nil: to the last entry.
        public var until: Date?
        /// Only this recipient domain (an A-label).
        public var domain: String?
        /// Only this reason.
        public var reason: String?
        /// Only this client, or the clients of this network.
        public var client: IPNetwork?
        /// Only this recipient, in upper or lower case; `*` stands for any text.
        public var recipient: String?
        /// Only this sender, in the same form; the empty text is `<>`.
        public var sender: String?
        /// Only this queue or session id.
        public var session: String?

        /// All entries, unless filters are given.
        public init(since: Date? = nil, until: Date? = nil, domain: String? = nil, reason: String? = nil) {
            self.since = since
            self.until = until
            self.domain = domain
            self.reason = reason
        }
    }

    /// The present entries in the order of time, without the entries that are written while reading. To go on with
    /// these, call ``lastEntryID()`` before and ``entries(after:limit:_:)`` afterwards.
    public func entries(_ query: EntryQuery = EntryQuery()) throws(LogError) -> EntrySequence {
        EntrySequence(reader: self, query: query, last: try lastEntryID())
    }

    /// The id of the newest entry; 0 if there is none.
    public func lastEntryID() throws(LogError) -> Int64 {
        try read { try Int64.fetchOne($0, sql: "SELECT max(id) FROM detail") ?? 0 }
    }

    /// The entries after an id, in the order of writing, at most `limit` of them: for following the log with repeated
    /// calls. The query should have the same filters each time, without times.
    public func entries(
        after id: Int64, limit: Int = 1000, _ query: EntryQuery = EntryQuery()
    ) throws(LogError) -> [LogEntry] {
        try read { try Self.fetch($0, query, where: "d.id > ?", arguments: [id], order: "d.id", limit: limit) }
            .map(\.entry)
    }

    /// The newest entries, at most `limit`, in the order of time.
    public func newestEntries(_ limit: Int, _ query: EntryQuery = EntryQuery()) throws(LogError) -> [LogEntry] {
        try read {
            try Self.fetch(
                $0, query, where: "d.id > ?", arguments: [0], order: "d.time DESC, d.id DESC", limit: limit)
        }.map(\.entry).reversed()
    }

    /// An entry with its time in the database (milliseconds since 1970), which may be out of the range of dates.
    fileprivate typealias StoredEntry = (entry: LogEntry, time: Int64)

    /// Entries page by page, so that a year of them needs little memory and delays no checkpoint.
    public struct EntrySequence: Sequence, IteratorProtocol {
        static let page = 500

        private let reader: RejectionReader
        private let query: EntryQuery
        /// The id of the last entry.
        private let last: Int64
        private var rows: ArraySlice<StoredEntry> = []
        /// The time and id of the last entry that was read.
        private var place = (time: Int64.min, id: Int64(0))
        private var isFinished = false

        fileprivate init(reader: RejectionReader, query: EntryQuery, last: Int64) {
            self.reader = reader
            self.query = query
            self.last = last
        }

        /// The next entry; an error ends the sequence with `.failure` as its last element.
        public mutating func next() -> Result<LogEntry, LogError>? {
            if rows.isEmpty, !isFinished {
                do { rows = try nextPage() } catch {
                    isFinished = true
                    return .failure(error)
                }
            }
            return rows.popFirst().map { .success($0.entry) }
        }

        private mutating func nextPage() throws(LogError) -> ArraySlice<StoredEntry> {
            let (query, last, place) = (query, last, place)
            let page = try reader.read { db in
                try RejectionReader.fetch(
                    db, query, where: "d.id <= ? AND (d.time, d.id) > (?, ?)", arguments: [last, place.time, place.id],
                    order: "d.time, d.id", limit: Self.page)
            }
            isFinished = page.count < Self.page
            if let end = page.last { self.place = (end.time, end.entry.id) }
            return page[...]
        }
    }

    private static func fetch(
        _ db: Database, _ query: EntryQuery, where condition: String, arguments: StatementArguments, order: String,
        limit: Int
    ) throws -> [StoredEntry] {
        var conditions = [condition]
        var arguments = arguments
        func filter(_ value: (any DatabaseValueConvertible)?, _ condition: String) {
            guard let value else { return }
            conditions.append(condition)
            arguments += [value]
        }
        filter(query.since.map(Timestamp.milliseconds), "d.time >= ?")
        filter(query.until.map(Timestamp.milliseconds), "d.time < ?")
        filter(query.domain, "d.domain = (SELECT id FROM domain WHERE name = ?)")
        filter(query.reason, "d.reason = (SELECT id FROM reason WHERE name = ?)")
        if let clients = query.client?.range {
            let (first, last) = (clients.lowerBound.stored, clients.upperBound.stored)
            conditions.append("d.client BETWEEN ? AND ? AND length(d.client) = ?")
            arguments += [first, last, last.count]
        }
        filter(query.recipient.map(pattern), "d.recipient LIKE ? ESCAPE '\\'")
        filter(query.sender.map(pattern), "d.sender LIKE ? ESCAPE '\\'")
        filter(query.session, "d.session = ?")
        let sql = """
            SELECT d.id, d.time, d.outcome, d.observed, r.name, d.recipient, n.name, d.sender, d.client, d.client_name,
                d.helo, d.session, d.authenticated, d.mta, d.reply
            FROM detail d LEFT JOIN reason r ON r.id = d.reason LEFT JOIN domain n ON n.id = d.domain
            WHERE \(conditions.joined(separator: " AND ")) ORDER BY \(order) LIMIT ?
            """
        return try Row.fetchAll(db, sql: sql, arguments: arguments + [limit])
            .map { (entry: try entry($0), time: try $0.value(1)) }
    }

    /// The SQL pattern of a text in which `*` stands for any text.
    private static func pattern(_ text: String) -> String {
        text.reduce(into: "") { pattern, character in
            switch character {
            case "*": pattern += "%"
            case "%", "_", "\\": pattern += "\\\(character)"
            default: pattern.append(character)
            }
        }
    }

    private static func entry(_ row: Row) throws -> LogEntry {
        let client: Data = try row.optional(8) ?? Data()
        return LogEntry(
            id: try row.value(0), time: try Timestamp.date(milliseconds: row.value(1)),
            outcome: Outcome(stored: try row.value(2)), observed: try row.value(3),
            reason: try row.optional(4) ?? "", recipient: try row.value(5), domain: try row.optional(6) ?? "",
            sender: try row.value(7), client: client.withUnsafeBytes { IPAddress(stored: $0).clientText },
            clientName: try row.value(9), helo: try row.value(10), session: try row.value(11),
            authenticated: try row.value(12), mta: try row.value(13), reply: try row.value(14))
    }
}
