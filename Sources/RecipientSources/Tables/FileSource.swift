import Foundation
import Glibc
import RecipientIndex
import Synchronization
import System

/// A source of type `file`.
///
/// A table is never read while somebody writes to it. Where that can't be told, it is read once it has come to rest; one that has become
/// shorter, which may be half of it, must rest longer.
final class FileSource: RecipientSource {
    let configuration: SourceConfiguration
    /// Its place among the sources of the configuration.
    private let index: Int
    private let format: TableFormat
    private let path: String
    private let watch = Mutex<TableWatch?>(nil)
    /// Whether the last pull gave up waiting for a writer.
    private let isAwaited = Atomic(false)

    /// How long a pull waits for a writer.
    private let patience: Duration

    init(
        configuration: SourceConfiguration, index: Int, format: TableFormat, path: String,
        patience: Duration = .seconds(15)
    ) {
        self.patience = patience
        self.configuration = configuration
        self.index = index
        self.format = format
        self.path = path
    }

    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SourceError) -> Pull {
        let watch = watch.withLock { watch in
            let found = watch ?? TableWatch(path)
            watch = found
            return found
        }
        let previous = FileCursor(request.previous?.cursor)
        let began = ContinuousClock.now
        var rest = FileRest()
        var attempts = 0
        while true {
            try request.check()
            let time = Date()
            let file = try TableFile(path, source: configuration.name)
            if let previous, previous.isSettled, previous.stamp == file.stamp,
                // Whether its targets are listed by now shows only when they are compared with the whole list.
                request.isStaying || request.previous?.report?.unlistedTargets == nil
            {
                return Pull(reading: .unchanged, asOf: time, cursor: request.previous?.cursor)
            }
            if let reason = rest.reason(toWaitFor: file.stamp, previous?.stamp, watch.writing(file.descriptor)) {
                guard ContinuousClock.now - began < patience else {
                    isAwaited.store(true, ordering: .sequentiallyConsistent)
                    throw failure("\(path) \(reason)")
                }
                intake.wait(for: "\(path) \(reason)")
                usleep(50_000)
                continue
            }
            intake.wait(for: nil)
            let reader = LineReader(file.descriptor, name: path, check: request.check)
            try intake.take(reader, format, name: path, of: configuration, at: index, &report) { file.isUnchanged }
            // A file that was written to or replaced meanwhile may have been read half.
            guard file.isUnchanged else {
                attempts += 1
                guard attempts < 5 else {
                    throw failure("\(path) kept changing while it was read, five times in a row")
                }
                usleep(100_000)
                continue
            }
            isAwaited.store(false, ordering: .sequentiallyConsistent)
            return Pull(reading: .full, asOf: time, cursor: FileCursor(file.stamp, at: time).encoded)
        }
    }

    /// Whether a file that a pull gave up waiting for has come.
    func hasNews() -> Bool {
        guard isAwaited.load(ordering: .sequentiallyConsistent), let watch = watch.withLock({ $0 }), watch.hasCome()
        else {
            return false
        }
        isAwaited.store(false, ordering: .sequentiallyConsistent)
        return true
    }

    private func failure(_ text: String) -> SourceError {
        SourceError(.unreachable, "source \"\(configuration.name)\": \(text)", source: configuration.name)
    }
}

/// What a file source goes on from: the state of the file that was read last.
struct FileCursor: Codable, Equatable {
    var stamp: FileStamp
    /// Whether another change would surely show in the stamp.
    var isSettled: Bool

    init(_ stamp: FileStamp, at time: Date) {
        self.stamp = stamp
        isSettled = stamp.isSettled(at: time)
    }

    /// The cursor in the state; nil for none.
    init?(_ data: Data?) {
        guard let data else { return nil }
        if let cursor = try? JSONDecoder().decode(Self.self, from: data) {
            self = cursor
        } else if let stamp = try? JSONDecoder().decode(FileStamp.self, from: data) {
            // Of an older version, which kept none that wasn't settled.
            self.stamp = stamp
            isSettled = true
        } else {
            return nil
        }
    }

    var encoded: Data? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return try? encoder.encode(self)
    }
}

/// Judges whether a file may be read now, or may be half of what it is to become.
struct FileRest {
    /// How long a file must be as it is where it can't be told whether somebody writes to it; where it can, and has become shorter,
    /// as a writer may open it again to write the rest; and where neither is good.
    private static let unknown = Duration.seconds(2)
    private static let shorter = Duration.seconds(2)
    private static let unknownAndShorter = Duration.seconds(10)

    private var seen: (stamp: FileStamp, since: ContinuousClock.Instant)?

    /// Why the file isn't read yet, as a clause; nil where it may be.
    mutating func reason(
        toWaitFor stamp: FileStamp, _ previous: FileStamp?, _ writing: TableWatch.Writing, now: Date = Date(),
        instant: ContinuousClock.Instant = .now
    ) -> String? {
        if seen?.stamp != stamp { seen = (stamp, instant) }
        if writing == .inProgress {
            return "is being written: somebody has it open for writing; it is read once the writer closes it"
        }
        let isShorter = previous.map { stamp.size < $0.size } ?? false
        let needed: Duration
        switch writing {
        case .renamed: return nil
        case .unknown: needed = isShorter ? Self.unknownAndShorter : Self.unknown
        default: needed = isShorter ? Self.shorter : .zero
        }
        // Its own time, unless that lies in the future; and what was seen of it here.
        let age = Duration.seconds(now.timeIntervalSince1970 - Double(stamp.modified) / 1e9)
        if age >= needed || instant - (seen?.since ?? instant) >= needed { return nil }
        return isShorter
            ? "has just become shorter; it is read once it hasn't changed for \(needed.text)"
            : "has just changed; it is read once it hasn't changed for \(needed.text)"
    }
}

/// A regular file open for reading, with its stamp from before the first read.
final class TableFile {
    let descriptor: Int32
    let stamp: FileStamp
    private let path: String

    init(_ path: String, source: String) throws(SourceError) {
        self.path = path
        // Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw SourceError(
                .unreachable, "source \"\(source)\": \(path) can't be opened: \(systemMessage())", source: source)
        }
        var status = Glibc.stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            let what = status.st_mode & S_IFMT == S_IFDIR ? "a directory" : "not a regular file"
            Glibc.close(descriptor)
            throw SourceError(
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
