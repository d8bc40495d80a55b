import GRDB

extension SyncState {
    /// The tables of form 2; form 1 had no `domain` table and no `domains` of a source.
    ///
    /// - `decision` (one row): the list last decided on: its generation, its date in ms since 1970 and its size, which its snapshot
    ///   bears too; the same of the list before, to know that one's snapshot by; the last refusal as JSON.
    /// - `source`: one for each source of the last decision: its configuration as JSON, when its entries were right (`as_of`, ms),
    ///   the cursor that belongs to them, its last report as JSON, the relay domains that it names as JSON.
    /// - `domain`: how many addresses each domain has in `entry`, so that a change needn't count them.
    /// - `failure`: the sources that could not be read the last time, and why.
    /// - `entry`: which object of which source lists which address.
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
                    refusal TEXT
                );
                INSERT INTO decision VALUES (1, 0, 0, 0, 0, 0, 0, NULL);
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
                """)
    }

    /// From form 1; the domains are counted by the next walk over the whole list.
    static func addDomains(_ database: Database) throws {
        try database.execute(
            sql: """
                ALTER TABLE source ADD COLUMN domains TEXT;
                \(domainTable);
                PRAGMA user_version = \(version)
                """)
    }

    private static let domainTable =
        "CREATE TABLE domain (name TEXT PRIMARY KEY, recipients INTEGER NOT NULL) WITHOUT ROWID"
}
