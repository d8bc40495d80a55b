import GRDB

/// The tables of the database and their versions.
///
/// - `domain`, `reason`: names; domain 0 is "", for recipients without a domain or with one that isn't counted by name.
///   `last_day` is the last day (days since 1970) on which the name was counted.
/// - `counter`: exact counts. `unit` is 0 for minutes, 1 for hours, 2 for days (UTC); `start` is the unit's first
///   minute since 1970. Each unit holds all counts: a report adds days, and at its ends hours and minutes.
/// - `thinned`: detail rows that a flood left no room for, by the same units.
/// - `detail`: one row for each rejected, deferred or observed recipient. `id` grows in the order of writing and is
///   never reused; `time` is in milliseconds since 1970; `client` is a blob of 4 or 16 bytes.
/// - `tally`: rejections by value and day (days since 1970, UTC), in the kinds of ``TallyKind``: `first` and `last` are
///   times as in `detail`, `peers` and `networks` sketches of different values (``DistinctSketch``). A day that is over
///   keeps its most frequent values; `folded` is the number of rejections of all other values. `open_tally`: all values
///   of days that aren't over; its rows of days up to `closed_<kind>` wait for their removal.
/// - `unlisted_sender`: senders in relay domains that sent through the gateway and aren't in the index; `last_day` in
///   days since 1970 (UTC).
/// - `accepted_network`: the client networks (as in `tally`) from which a recipient was accepted, with the last day.
/// - `generation`: the indexes that came into force, `time` and `created` in milliseconds since 1970.
/// - `state`: `next_detail`, the id of the next row; `tallied`, the id of the last row in the tallies; `closed_<kind>`,
///   the last day in `tally`; `details_from`, the time before which detail rows were pruned; `trusted_time`, the last
///   time that was known to be right (``TrustedTime``); `accepted_since`, the first day of which `accepted_network`
///   holds everything.
enum LogSchema {
    /// Marks the file as a rejection log (`PRAGMA application_id`): "PsRL".
    static let applicationID: Int32 = 0x5073_524C

    /// The version of this Postern (`PRAGMA user_version`): the number of migrations.
    static var version: Int { migrations.count }

    /// Migration n leads from version n to n + 1. A published migration never changes.
    static let migrations: [String] = [
        """
        CREATE TABLE domain (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_day INTEGER NOT NULL DEFAULT 0);
        INSERT INTO domain (id, name) VALUES (0, '');
        CREATE TABLE reason (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
        CREATE TABLE counter (
            unit INTEGER NOT NULL, start INTEGER NOT NULL, reason INTEGER NOT NULL, domain INTEGER NOT NULL,
            outcome INTEGER NOT NULL, observed INTEGER NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (unit, start, reason, domain, outcome, observed)) WITHOUT ROWID;
        CREATE TABLE thinned (
            unit INTEGER NOT NULL, start INTEGER NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (unit, start)) WITHOUT ROWID;
        CREATE TABLE detail (
            id INTEGER PRIMARY KEY, time INTEGER NOT NULL, outcome INTEGER NOT NULL, observed INTEGER NOT NULL,
            reason INTEGER NOT NULL, domain INTEGER NOT NULL, authenticated INTEGER NOT NULL, client BLOB,
            recipient TEXT NOT NULL, sender TEXT NOT NULL, client_name TEXT NOT NULL, helo TEXT NOT NULL,
            session TEXT NOT NULL, mta TEXT NOT NULL, reply TEXT NOT NULL);
        CREATE INDEX detail_time ON detail (time);
        CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO state VALUES ('next_detail', 1);
        """,
        """
        CREATE TABLE tally (
            kind INTEGER NOT NULL, day INTEGER NOT NULL, value BLOB NOT NULL, reason INTEGER NOT NULL,
            domain INTEGER NOT NULL, count INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
            name TEXT NOT NULL, peers BLOB, networks BLOB,
            PRIMARY KEY (kind, day, value, reason, domain)) WITHOUT ROWID;
        CREATE TABLE open_tally (
            kind INTEGER NOT NULL, day INTEGER NOT NULL, value BLOB NOT NULL, reason INTEGER NOT NULL,
            domain INTEGER NOT NULL, count INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
            name TEXT NOT NULL, peers BLOB, networks BLOB,
            PRIMARY KEY (kind, day, value, reason, domain)) WITHOUT ROWID;
        CREATE TABLE folded (
            kind INTEGER NOT NULL, day INTEGER NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (kind, day)) WITHOUT ROWID;
        CREATE TABLE generation (
            id INTEGER PRIMARY KEY, time INTEGER NOT NULL, generation INTEGER NOT NULL, recipients INTEGER NOT NULL,
            created INTEGER NOT NULL);
        CREATE INDEX generation_time ON generation (time);
        INSERT INTO state VALUES ('tallied', 0);
        """,
        """
        CREATE TABLE unlisted_sender (
            address TEXT PRIMARY KEY, last_day INTEGER NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE accepted_network (network BLOB PRIMARY KEY, last_day INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO state SELECT 'accepted_since', CASE WHEN EXISTS (SELECT 1 FROM counter)
            THEN strftime('%s', 'now') / 86400 + 1 ELSE 0 END;
        """,
    ]

    /// The version of an open database; 0 for an empty file.
    static func inspect(_ db: Database, path: String) throws -> Int {
        let application = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
        let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        let tables = try db.count("SELECT count(*) FROM sqlite_master")
        if application == 0, version == 0, tables == 0 { return 0 }
        guard application == applicationID else {
            throw LogError(
                .notALog, path: path,
                "\(path) is not a rejection log: it is another program's database; Postern has not changed it",
                advice: "give log.database another path")
        }
        guard version >= 0 else { throw LogError.damaged(path, "its schema version is \(version)") }
        guard version <= Self.version else {
            throw LogError(
                .newerVersion, path: path,
                "the rejection log \(path) was written by a newer Postern (schema \(version); this one knows "
                    + "\(Self.version)); this Postern has not changed it",
                advice: "run the newer Postern, or move the database away")
        }
        return version
    }

    /// Brings the database to this version in one transaction. It writes the version even if nothing changes: a database
    /// that can't be written fails here.
    static func migrate(_ db: Database, from version: Int) throws {
        try db.inTransaction(.immediate) {
            for step in migrations.dropFirst(version) { try db.execute(sql: step) }
            try db.execute(sql: "PRAGMA application_id = \(applicationID)")
            try db.execute(sql: "PRAGMA user_version = \(Self.version)")
            return .commit
        }
    }
}
