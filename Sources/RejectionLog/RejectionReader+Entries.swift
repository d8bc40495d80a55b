public import Foundation
import GRDB

extension RejectionReader {
    /// Which rows ``RejectionReader/entries(_:)`` gives.
    public struct EntryQuery: Sendable {
        /// From this time on; nil from the first row.
        public var since: Date?
        /// Up to, and without, this time; nil to the last row.
        public var until: Date?
        /// Only this domain's (an A-label).
        public var domain: String?
        /// Only this reason's.
        public var reason: String?

        /// All rows, unless told otherwise.
        public init(since: Date? = nil, until: Date? = nil, domain: String? = nil, reason: String? = nil) {
            self.since = since
            self.until = until
            self.domain = domain
            self.reason = reason
        }
    }

    /// The rows in the order of time, as of now: those written while reading aren't among them. Use ``lastEntryID()`` before
    /// and ``entries(after:limit:_:)`` afterwards to go on with them.
    public func entries(_ query: EntryQuery = EntryQuery()) throws(LogError) -> EntrySequence {
        EntrySequence(reader: self, query: query, last: try lastEntryID())
    }

    /// The id of the newest row, 0 if there is none.
    public func lastEntryID() throws(LogError) -> Int64 {
        try read { try Int64.fetchOne($0, sql: "SELECT max(id) FROM detail") ?? 0 }
    }

    /// The rows that were written after the one of that id, in the order of writing, at most `limit` of them: for following
    /// the log, asked again and again. Give the query the same filters as before, without times.
    public func entries(
        after id: Int64, limit: Int = 1000, _ query: EntryQuery = EntryQuery()
    ) throws(LogError) -> [LogEntry] {
        try read { db in
            try Self.fetch(
                db, query, condition: "d.id > ?", arguments: [id], order: "d.id", limit: limit)
        }
    }

    /// Rows page by page, so that a year of them takes no memory and holds up no checkpoint.
    public struct EntrySequence: Sequence, IteratorProtocol {
        static let page = 500

        private let reader: RejectionReader
        private let query: EntryQuery
        private let last: Int64
        private var rows: ArraySlice<LogEntry> = []
        private var place: (time: Int64, id: Int64)?
        private var finished = false

        init(reader: RejectionReader, query: EntryQuery, last: Int64) {
            self.reader = reader
            self.query = query
            self.last = last
        }

        /// The next row; an error ends the sequence with `.failure` as its last element.
        public mutating func next() -> Result<LogEntry, LogError>? {
            if rows.isEmpty, !finished {
                do {
                    rows = try nextPage()
                } catch {
                    finished = true
                    return .failure(error)
                }
            }
            return rows.popFirst().map { .success($0) }
        }

        private mutating func nextPage() throws(LogError) -> ArraySlice<LogEntry> {
            let (query, last, place) = (query, last, place)
            let page = try reader.read { db in
                try RejectionReader.fetch(
                    db, query, condition: "d.id <= ? AND (d.time, d.id) > (?, ?)",
                    arguments: [last, place?.time ?? Int64.min, place?.id ?? 0], order: "d.time, d.id", limit: Self.page
                )
            }
            finished = page.count < Self.page
            if let end = page.last { self.place = (Timestamp.milliseconds(since1970: end.time), end.id) }
            return page[...]
        }
    }

    private static func fetch(
        _ db: Database, _ query: EntryQuery, condition: String, arguments: StatementArguments, order: String, limit: Int
    ) throws -> [LogEntry] {
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
        sql += " ORDER BY \(order) LIMIT ?"
        arguments += [limit]
        return try Row.fetchAll(db, sql: sql, arguments: arguments).map(Self.entry)
    }

    private static func entry(_ row: Row) -> LogEntry {
        let time: Int64 = row[1]
        let client = row[8] as Data? ?? Data()
        return LogEntry(
            id: row[0], time: Date(timeIntervalSince1970: Double(time) / 1000),
            outcome: Outcome(rawValue: row[2]) ?? .refused, observed: row[3], reason: row[4] ?? "", recipient: row[5],
            domain: row[6] ?? "", sender: row[7], client: client.withUnsafeBytes { LogAddress(stored: $0).description },
            clientName: row[9], helo: row[10], session: row[11], authenticated: row[12], mta: row[13], reply: row[14])
    }
}
