import GRDB

/// An index that came into force; times in milliseconds since 1970.
struct IndexNote: Equatable, Sendable {
    var time: Int64
    var generation: Int64
    var recipients: Int64
    var created: Int64

    /// Adds it to the history, unless it is the one that was in force.
    func enter(_ db: Database) throws {
        try db.execute(
            sql: """
                INSERT INTO generation (time, generation, recipients, created) SELECT ?1, ?2, ?3, ?4
                WHERE NOT EXISTS (
                    SELECT 1 FROM generation WHERE id = (SELECT max(id) FROM generation)
                    AND generation = ?2 AND recipients = ?3 AND created = ?4)
                """, arguments: [time, generation, recipients, created])
    }
}
