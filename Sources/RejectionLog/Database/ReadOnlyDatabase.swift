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
        configuration.prepareDatabase { $0.add(function: Redaction.function) }
        return configuration
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
