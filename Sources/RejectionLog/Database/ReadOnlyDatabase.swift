import Foundation
import GRDB
import Glibc

/// How a database is opened by whoever doesn't write to it.
enum ReadOnlyDatabase {
    static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "rejection log reader"
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { db in
            db.add(function: Redaction.function)
            try distrust(db)
        }
        return configuration
    }

    /// Has SQLite look harder at what the file says: it may be damaged, or made by somebody else.
    static func distrust(_ db: Database) throws {
        try db.execute(sql: "PRAGMA cell_size_check = ON")
        try db.execute(sql: "PRAGMA trusted_schema = OFF")
    }

    /// What to open when no writer is at work: without a write-ahead log the file is complete, and SQLite needs no side files,
    /// which a mere reader may not be able to make. The path itself if there is a write-ahead log.
    static func restingLocation(_ path: String) -> String {
        var status = stat()
        let pending = stat(path + "-wal", &status) == 0 && status.st_size > 0
        guard !pending, let name = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) else {
            return path
        }
        return "file://\(name.hasPrefix("/") ? "" : "/")\(name)?immutable=1"
    }
}
