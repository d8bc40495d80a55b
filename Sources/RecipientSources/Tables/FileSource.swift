import Foundation
import Glibc
import Synchronization
import System

/// A source of type `file`.
///
/// A table isn't read while somebody writes to it. If writers can't be seen, it is read once it hasn't changed for a
/// while; a table that has become shorter may be the first half of a new one, so that this while is longer.
final class FileSource: RecipientSource {
    let configuration: SourceConfiguration
    private let format: TableFormat
    private let path: String
    private let watch = Mutex<TableWatch?>(nil)
    /// Whether the last reading gave up waiting for a writer.
    private let isAwaited = Atomic(false)
    /// How long a reading waits for a writer.
    private let patience: Duration

    init(
        _ configuration: SourceConfiguration, format: TableFormat, path: String, patience: Duration = .seconds(15)
    ) {
        self.configuration = configuration
        self.format = format
        self.path = path
        self.patience = patience
    }

    func read(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(SourceError) -> SourceResult {
        let watch = watch.withLock { watch in
            let found = watch ?? TableWatch(path)
            watch = found
            return found
        }
        let previous = FileCursor(request.previous?.cursor)
        let began = ContinuousClock.now
        var settling = FileSettling()
        var attempts = 0
        while true {
            try request.check()
            let time = Date()
            let file = try TableFile(path, source: configuration.name)
            if let previous, previous.isSettled, previous.stamp == file.stamp,
                // A table with unlisted targets is read again: whether they are listed by now shows only in a
                // comparison with the whole list.
                request.keepsConnections || request.previous?.report?.unlistedTargets == nil
            {
                return SourceResult(reading: .unchanged, asOf: time, cursor: request.previous?.cursor)
            }
            if let reason = settling.reason(toWaitFor: file.stamp, previous?.stamp, watch.writing(file.descriptor)) {
                guard ContinuousClock.now - began < patience else {
                    isAwaited.store(true, ordering: .sequentiallyConsistent)
                    throw failure("\(path) \(reason)")
                }
                entries.wait(for: "\(path) \(reason)")
                usleep(50_000)
                continue
            }
            entries.wait(for: nil)
            let reader = LineReader(file.descriptor, name: path, check: request.check)
            try entries.read(reader, format, of: configuration, report: &report) { file.isUnchanged }
            // Half of a file may have been read if somebody wrote to it or replaced it meanwhile.
            guard file.isUnchanged else {
                attempts += 1
                guard attempts < 5 else {
                    throw failure("\(path) changed while it was read, five times in a row")
                }
                usleep(100_000)
                continue
            }
            isAwaited.store(false, ordering: .sequentiallyConsistent)
            return SourceResult(reading: .full, asOf: time, cursor: FileCursor(file.stamp, at: time).encodedCursor)
        }
    }

    /// Whether the last reading gave up waiting for a writer, who has finished since.
    func hasReportedChanges() -> Bool {
        guard isAwaited.load(ordering: .sequentiallyConsistent), let watch = watch.withLock({ $0 }), watch.hasCome()
        else {
            return false
        }
        isAwaited.store(false, ordering: .sequentiallyConsistent)
        return true
    }

    /// Reads the table again for the line of the key.
    func origin(of key: String, object: Data) -> String? {
        guard let file = try? TableFile(path, source: configuration.name) else { return path }
        var found: Int?
        let wanted = Array(key.utf8)
        var parser = TableParser(format)
        try? parser.parse(LineReader(file.descriptor, name: path)) { listing in
            if found == nil, listing.key.elementsEqual(wanted) { found = listing.line }
        }
        return found.map { "line \($0) of \(path)" } ?? "\(path), which has changed since the last sync"
    }
}

/// The cursor of a file source: the stamp of the file that was read last.
struct FileCursor: Codable, Equatable {
    var stamp: FileStamp
    /// Whether a later change would surely show in the stamp.
    var isSettled: Bool

    init(_ stamp: FileStamp, at time: Date) {
        self.stamp = stamp
        isSettled = stamp.isSettled(at: time)
    }

    /// The cursor in the state; nil if there is none.
    init?(_ data: Data?) {
        guard let data else { return nil }
        if let cursor = try? JSONDecoder().decode(Self.self, from: data) {
            self = cursor
        } else if let stamp = try? JSONDecoder().decode(FileStamp.self, from: data) {
            // Older versions stored settled stamps only.
            self.stamp = stamp
            isSettled = true
        } else {
            return nil
        }
    }
}
