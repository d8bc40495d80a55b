public import Foundation
import GRDB
public import System

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

    /// The present entries in the order of time; entries that are written while reading aren't among them. To go on
    /// with those, call ``lastEntryID()`` before and ``entries(after:limit:_:)`` afterwards.
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
        try read { db in
            try Self.fetch(
                db, query, condition: "d.id > ?", arguments: [id], order: "d.id", limit: limit)
        }.map(\.entry)
    }

    /// The newest entries, at most `limit`, in the order of time.
    public func newestEntries(_ limit: Int, _ query: EntryQuery = EntryQuery()) throws(LogError) -> [LogEntry] {
        try read { db in
            try Self.fetch(
                db, query, condition: "d.id > ?", arguments: [0], order: "d.time DESC, d.id DESC", limit: limit)
        }.map(\.entry).reversed()
    }

    /// An entry with its time in the database (milliseconds since 1970), which may be out of the range of dates.
    fileprivate struct StoredEntry {
        var entry: LogEntry
        var time: Int64
    }

    /// Entries page by page, so that a year of them needs little memory and delays no checkpoint.
    public struct EntrySequence: Sequence, IteratorProtocol {
        static let page = 500

        private let reader: RejectionReader
        private let query: EntryQuery
        private let last: Int64
        private var rows: ArraySlice<StoredEntry> = []
        private var place: (time: Int64, id: Int64)?
        private var finished = false

        init(reader: RejectionReader, query: EntryQuery, last: Int64) {
            self.reader = reader
            self.query = query
            self.last = last
        }

        /// The next entry; an error ends the sequence with `.failure` as its last element.
        public mutating func next() -> Result<LogEntry, LogError>? {
            if rows.isEmpty, !finished {
                do {
                    rows = try nextPage()
                } catch {
                    finished = true
                    return .failure(error)
                }
            }
            return rows.popFirst().map { .success($0.entry) }
        }

        private mutating func nextPage() throws(LogError) -> ArraySlice<StoredEntry> {
            let (query, last, place) = (query, last, place)
            let page = try reader.read { db in
                try RejectionReader.fetch(
                    db, query, condition: "d.id <= ? AND (d.time, d.id) > (?, ?)",
                    arguments: [last, place?.time ?? Int64.min, place?.id ?? 0], order: "d.time, d.id", limit: Self.page
                )
            }
            finished = page.count < Self.page
            if let end = page.last { self.place = (end.time, end.entry.id) }
            return page[...]
        }
    }

    private static func fetch(
        _ db: Database, _ query: EntryQuery, condition: String, arguments: StatementArguments, order: String, limit: Int
    ) throws -> [StoredEntry] {
        var sql = """
            SELECT d.id, d.time, d.outcome, d.observed, r.name, d.recipient, n.name, d.sender, d.client, d.client_name,
                d.helo, d.session, d.authenticated, d.mta, d.reply
            FROM detail d LEFT JOIN reason r ON r.id = d.reason LEFT JOIN domain n ON n.id = d.domain
            WHERE \(condition)
            """
        var arguments = arguments
        if let since = query.since {
            sql += " AND d.time >= ?"
            arguments += [Timestamp.milliseconds(since1970: since)]
        }
        if let until = query.until {
            sql += " AND d.time < ?"
            arguments += [Timestamp.milliseconds(since1970: until)]
        }
        if let domain = query.domain {
            sql += " AND d.domain = (SELECT id FROM domain WHERE name = ?)"
            arguments += [domain]
        }
        if let reason = query.reason {
            sql += " AND d.reason = (SELECT id FROM reason WHERE name = ?)"
            arguments += [reason]
        }
        if let clients = query.client?.range {
            let (first, last) = (clients.lowerBound.stored, clients.upperBound.stored)
            sql += " AND d.client BETWEEN ? AND ? AND length(d.client) = ?"
            arguments += [first, last, last.count]
        }
        if let recipient = query.recipient {
            sql += " AND d.recipient LIKE ? ESCAPE '\\'"
            arguments += [pattern(recipient)]
        }
        if let sender = query.sender {
            sql += " AND d.sender LIKE ? ESCAPE '\\'"
            arguments += [pattern(sender)]
        }
        if let session = query.session {
            sql += " AND d.session = ?"
            arguments += [session]
        }
        sql += " ORDER BY \(order) LIMIT ?"
        arguments += [limit]
        return try Row.fetchAll(db, sql: sql, arguments: arguments)
            .map { StoredEntry(entry: try entry($0), time: try $0.value(1)) }
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
            outcome: Outcome(rawValue: try row.value(2)) ?? .rejected, observed: try row.value(3),
            reason: try row.optional(4) ?? "", recipient: try row.value(5), domain: try row.optional(6) ?? "",
            sender: try row.value(7), client: client.withUnsafeBytes { IPAddress(stored: $0).clientText },
            clientName: try row.value(9), helo: try row.value(10), session: try row.value(11),
            authenticated: try row.value(12), mta: try row.value(13), reply: try row.value(14))
    }
}
