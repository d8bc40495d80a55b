public import Foundation
import GRDB
import Glibc
import Synchronization
import System

/// Reads a rejection log, also while a filter writes to it, without delaying the filter.
///
/// Reading needs read permission on the database and the files `-wal` and `-shm` beside it. If another database takes
/// the place of the opened one, the reader opens the new one.
public final class RejectionReader: Sendable {
    private typealias Connection = (queue: DatabaseQueue, stamp: FileStamp?)

    /// The path of the database, its folder without symbolic links.
    public let path: String
    private let connection: Mutex<Connection>

    /// Opens an existing database.
    ///
    /// It throws an error if the database is missing, not readable, damaged, not a rejection log, or of a newer
    /// Postern. The database is never changed.
    public init(path given: String) throws(LogError) {
        path = LogFile.canonical(given)
        connection = Mutex(try Self.connect(path))
    }

    private static func connect(_ path: String) throws(LogError) -> Connection {
        func unreadable(_ code: CInt) -> LogError {
            LogError(
                .permission, path: path, "can't read the rejection log \(path): \(systemMessage(code))",
                advice: LogError.accessAdvice)
        }
        var status = stat()
        if lstat(path, &status) != 0 {
            throw errno == EACCES ? unreadable(EACCES) : missing(path, "no rejection log yet at \(path)")
        }
        try LogFile.checkKind(path)
        guard access(path, R_OK) == 0 else { throw unreadable(errno) }
        do {
            let stamp = FileStamp(path: path)
            return (try open(path), stamp)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }

    private static func missing(_ path: String, _ reason: String) -> LogError {
        LogError(.notFound, path: path, reason, advice: "the filter creates it at its first start")
    }

    private static func open(_ path: String) throws -> DatabaseQueue {
        do {
            return try open(path, at: path)
        } catch let error as DatabaseError
            where error.resultCode == .SQLITE_CANTOPEN || error.resultCode == .SQLITE_READONLY
        {
            // No filter runs, and this user may not create the files beside the database: the database is complete.
            return try open(path, at: ReadOnlyDatabase.idleLocation(path))
        }
    }

    private static func open(_ path: String, at location: String) throws -> DatabaseQueue {
        let queue = try DatabaseQueue(path: location, configuration: ReadOnlyDatabase.configuration)
        let version = try queue.read { try LogSchema.inspect($0, path: path) }
        guard version == LogSchema.version else {
            throw version == 0
                ? missing(path, "no rejection log yet at \(path): the file is empty")
                : LogError(
                    .notFound, path: path, "the rejection log \(path) is of an older Postern (schema \(version))",
                    advice: "start the filter once to migrate it")
        }
        return queue
    }

    func read<T>(_ body: (Database) throws -> T) throws(LogError) -> T {
        let queue = try current()
        do {
            return try queue.read(body)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }

    /// The connection to the database that is at the path now.
    private func current() throws(LogError) -> DatabaseQueue {
        let known = connection.withLock { $0 }
        guard let found = FileStamp(path: path) else { return known.queue }
        if let stamp = known.stamp, stamp.isSameFile(as: found) { return known.queue }
        let fresh = try Self.connect(path)
        connection.withLock { $0 = fresh }
        return fresh.queue
    }
}

extension RejectionReader {
    /// How many recipients had each verdict in a span of time.
    public struct Verdicts: Sendable, Codable, Equatable {
        /// Recipients that were accepted.
        public var accepted = 0
        /// Recipients that were rejected with a 5xx reply.
        public var refused = 0
        /// Recipients that were deferred with a 4xx reply.
        public var tempfailed = 0
        /// Recipients that observe mode accepted, and enforce mode would have rejected or deferred.
        public var observed = 0

        /// No recipients, unless numbers are given.
        public init(accepted: Int = 0, refused: Int = 0, tempfailed: Int = 0, observed: Int = 0) {
            self.accepted = accepted
            self.refused = refused
            self.tempfailed = tempfailed
            self.observed = observed
        }

        mutating func add(_ outcome: Outcome, observed isObserved: Bool, _ count: Int) {
            switch outcome {
            case .accepted: accepted &+= count
            case _ where isObserved: observed &+= count
            case .rejected: refused &+= count
            case .deferred: tempfailed &+= count
            }
        }

        mutating func removeNegatives() {
            refused = max(0, refused)
            tempfailed = max(0, tempfailed)
            observed = max(0, observed)
        }
    }

    /// The verdicts since a time, by whole minutes, without the recipients that the MTA rejected itself.
    public func verdicts(since: Date, until: Date = Date()) throws(LogError) -> Verdicts {
        try read { db in
            var sum = Verdicts()
            for span in TimeUnit.spans(from: Self.minute(since), to: Self.minute(until) + 1) {
                try Self.forEachCount(db, in: span) { sum.add($1, observed: $2, $3) }
            }
            return sum
        }
    }

    /// The verdicts of each of the last minutes, oldest first, without the recipients that the MTA rejected itself. The
    /// last minute is the minute of `now`, which isn't over.
    public func verdictsByMinute(_ minutes: Int, now: Date = Date()) throws(LogError) -> [Verdicts] {
        let end = Self.minute(now) + 1
        let start = end &- Int64(minutes)
        return try read { db in
            var list = [Verdicts](repeating: Verdicts(), count: minutes)
            try Self.forEachCount(db, in: TimeUnit.Span(unit: .minute, from: start, to: end)) {
                minute, outcome, observed, count in
                guard let place = Int(exactly: minute - start), list.indices.contains(place) else { return }
                list[place].add(outcome, observed: observed, count)
            }
            return list
        }
    }

    /// The minute of a time, since 1970.
    private static func minute(_ date: Date) -> Int64 {
        CounterKey.minute(ofMilliseconds: Timestamp.milliseconds(since1970: date))
    }

    /// Calls `body` with the start of a unit of time, an outcome, observe mode, and how many recipients these had.
    private static func forEachCount(
        _ db: Database, in span: TimeUnit.Span, _ body: (Int64, Outcome, Bool, Int) -> Void
    ) throws {
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT c.start, c.outcome, c.observed, sum(c.count)
                FROM counter c JOIN reason r ON r.id = c.reason
                WHERE c.unit = ? AND c.start >= ? AND c.start < ? AND r.name <> ?
                GROUP BY c.start, c.outcome, c.observed
                """, arguments: [span.unit.rawValue, span.from, span.to, RejectionLog.mtaReason])
        while let row = try rows.next() {
            body(try row.value(0), Outcome(stored: try row.value(1)), try row.value(2), try row.count(3))
        }
    }
}
