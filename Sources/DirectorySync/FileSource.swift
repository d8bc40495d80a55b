import Foundation
import Glibc
import RecipientIndex
import System

/// A source of type `file`.
struct FileSource: RecipientSource {
    let configuration: SourceConfiguration
    /// Its place among the sources of the configuration.
    let index: Int
    let format: TableFormat
    let path: String

    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SyncError) -> Pull {
        for attempt in 0..<5 {
            if attempt > 0 { usleep(100_000) }
            try request.check()
            let began = Date()
            let file = try TableFile(path, source: configuration.name)
            if let cursor = request.previous?.cursor,
                let seen = try? JSONDecoder().decode(FileStamp.self, from: cursor),
                seen == file.stamp,
                // Whether its targets are listed by now shows only when they are compared with the whole list.
                request.isStaying || request.previous?.report?.unlistedTargets == nil
            {
                return Pull(reading: .unchanged, asOf: began, cursor: cursor)
            }
            let reader = LineReader(file.descriptor, name: path, check: request.check)
            try intake.take(reader, format, name: path, of: configuration, at: index, &report) { file.isUnchanged }
            // A file that was written to or replaced meanwhile may have been read half.
            guard file.isUnchanged else { continue }
            // A stamp that another change within the same tick would share proves nothing later.
            let cursor = file.stamp.isSettled(at: began) ? try? JSONEncoder().encode(file.stamp) : nil
            return Pull(reading: .full, asOf: began, cursor: cursor)
        }
        throw SyncError(
            .unreachable,
            "source \"\(configuration.name)\": \(path) kept changing while it was read, five times in a row",
            source: configuration.name)
    }
}

/// A regular file open for reading, with its stamp from before the first read.
final class TableFile {
    let descriptor: Int32
    let stamp: FileStamp
    private let path: String

    init(_ path: String, source: String) throws(SyncError) {
        self.path = path
        // Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw SyncError(
                .unreachable, "source \"\(source)\": \(path) can't be opened: \(systemMessage())", source: source)
        }
        var status = Glibc.stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            let what = status.st_mode & S_IFMT == S_IFDIR ? "a directory" : "not a regular file"
            Glibc.close(descriptor)
            throw SyncError(
                .unreachable, "source \"\(source)\": \(path) is \(what); accepted is a table in source text",
                source: source)
        }
        stamp = FileStamp(status)
    }

    deinit {
        Glibc.close(descriptor)
    }

    /// Whether the path still names this file, as it was when it was opened.
    var isUnchanged: Bool {
        FileStamp(descriptor: descriptor) == stamp && FileStamp(path: path) == stamp
    }
}
