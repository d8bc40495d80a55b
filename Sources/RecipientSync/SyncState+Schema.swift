import GRDB

extension SyncState {
    /// Creates the tables of version 3. Version 1 lacked the table `domain` and the column `source.domains`; versions 1 and 2 lacked
    /// those of losses.
    ///
    /// - `decision` (one row): the list that passed the guards last, see ``ApprovedList``: its generation, its date (ms since 1970) and
    ///   its counts, which its snapshot has too; generation and date of the list before; the refusal of a newer list (JSON).
    /// - `source`: each source of that list: its configuration (JSON), when its entries were last known to be right (`as_of`, ms), the
    ///   cursor that belongs to them, its last ``SourceState`` (JSON), the relay domains that it names (JSON).
    /// - `domain`: how many addresses each domain has in `entry`, so that a small change needn't count them.
    /// - `failure`: the sources that the last sync could not read, and why.
    /// - `entry`: which object of which source lists which address.
    /// - `loss`: the addresses that no source lists any more (kind 0) or that were restricted (kind 1): their domain, the flags and
    ///   sources (names as JSON) that they had, when they were lost by the sync's time (`at`, see ``SyncClock``) and by the wall clock
    ///   (`time`, ms), whether the guard counts them, and whether the snapshot still holds them as leaving.
    /// - `refused`: the losses of the list that was last refused and shown.
    /// - `clock` (one row): the sync's time and what the clocks showed then.
    /// - `relay_table`: the relay domains that each table of the configuration listed (JSON).
    static func createSchema(_ database: Database) throws {
        try database.execute(
            sql: """
                PRAGMA application_id = \(applicationID);
                PRAGMA user_version = \(version);
                CREATE TABLE decision (
                    id INTEGER PRIMARY KEY CHECK (id = 1),
                    generation INTEGER NOT NULL, created INTEGER NOT NULL, recipients INTEGER NOT NULL,
                    catch_all_domains INTEGER NOT NULL,
                    before_generation INTEGER NOT NULL, before_created INTEGER NOT NULL,
                    refusal TEXT, leaving INTEGER NOT NULL DEFAULT 0, alias_domains INTEGER NOT NULL DEFAULT 0
                );
                INSERT INTO decision VALUES (1, 0, 0, 0, 0, 0, 0, NULL, 0, 0);
                CREATE TABLE source (
                    id INTEGER PRIMARY KEY AUTOINCREMENT,
                    name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, configuration TEXT NOT NULL, fingerprint TEXT NOT NULL,
                    recipients INTEGER NOT NULL, as_of INTEGER NOT NULL, cursor BLOB, report TEXT, domains TEXT
                );
                \(domainTable);
                CREATE TABLE failure (source TEXT PRIMARY KEY, text TEXT NOT NULL, at INTEGER NOT NULL);
                CREATE TABLE entry (
                    address TEXT NOT NULL, source INTEGER NOT NULL, object BLOB NOT NULL, flags INTEGER NOT NULL,
                    PRIMARY KEY (address, source, object)
                ) WITHOUT ROWID;
                CREATE INDEX entry_of_object ON entry (source, object) WHERE object <> x'';
                \(lossTables());
                CREATE INDEX leaving ON loss (at) WHERE leaving = 1;
                CREATE INDEX counted ON loss (counted, at) WHERE leaving = 0;
                """)
    }

    /// Migrates from version 1. The next comparison of the whole list counts the domains.
    static func addDomains(_ database: Database) throws {
        try database.execute(
            sql: """
                ALTER TABLE source ADD COLUMN domains TEXT;
                \(domainTable);
                """)
    }

    /// Migrates from version 2, which recorded no losses.
    static func addLosses(_ database: Database) throws {
        try database.execute(
            sql: """
                ALTER TABLE decision ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
                ALTER TABLE decision ADD COLUMN alias_domains INTEGER NOT NULL DEFAULT 0;
                \(lossTables());
                CREATE INDEX leaving ON loss (at) WHERE leaving = 1;
                CREATE INDEX counted ON loss (counted, at) WHERE leaving = 0;
                PRAGMA user_version = \(version)
                """)
    }

    /// Creates the tables that an older state lacks as temporary ones, for a connection that only reads it.
    static func addLossesForReading(_ database: Database) throws {
        try database.execute(sql: lossTables("TEMP "))
    }

    private static func lossTables(_ place: String = "") -> String {
        """
        CREATE \(place)TABLE loss (
            address TEXT NOT NULL, kind INTEGER NOT NULL, domain TEXT NOT NULL, flags INTEGER NOT NULL, sources TEXT NOT NULL,
            at INTEGER NOT NULL, time INTEGER NOT NULL, counted INTEGER NOT NULL, leaving INTEGER NOT NULL,
            PRIMARY KEY (address, kind)
        ) WITHOUT ROWID;
        CREATE \(place)TABLE refused (
            address TEXT NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (address, kind)
        ) WITHOUT ROWID;
        CREATE \(place)TABLE clock (
            id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL, wall INTEGER NOT NULL, steady INTEGER NOT NULL,
            boot TEXT NOT NULL
        );
        CREATE \(place)TABLE relay_table (path TEXT PRIMARY KEY, domains TEXT NOT NULL) WITHOUT ROWID
        """
    }

    private static let domainTable =
        "CREATE TABLE domain (name TEXT PRIMARY KEY, recipients INTEGER NOT NULL) WITHOUT ROWID"
}
