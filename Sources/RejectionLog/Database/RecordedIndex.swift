import GRDB

/// A recipient index that came into force; times in milliseconds since 1970.
package struct RecordedIndex: Equatable, Sendable {
    /// When it came into force.
    package var time: Int64
    package var generation: Int64
    package var recipients: Int64
    /// When it was made.
    package var created: Int64

    /// Adds the index to the history, unless it is the newest one there.
    func enter(_ db: Database) throws {
        try db.execute(
            sql: """
                INSERT INTO generation (time, generation, recipients, created) SELECT ?1, ?2, ?3, ?4
                WHERE NOT EXISTS (
                    SELECT 1 FROM generation WHERE id = (SELECT max(id) FROM generation)
                    AND generation = ?2 AND recipients = ?3 AND created = ?4)
                """, arguments: [time, generation, recipients, created])
    }

    /// The whole history, oldest first.
    static func all(_ db: Database) throws -> [RecordedIndex] {
        try Row.fetchAll(db, sql: "SELECT time, generation, recipients, created FROM generation ORDER BY time, id").map
        {
            RecordedIndex(
                time: try $0.value(0), generation: try $0.value(1), recipients: try $0.value(2),
                created: try $0.value(3))
        }
    }
}
