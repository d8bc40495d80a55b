import Foundation
import Glibc
import RecipientIndex

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
                seen == file.stamp
            {
                return Pull(reading: .unchanged, asOf: began, cursor: cursor)
            }
            let parser = try read(file, into: intake, report: &report, check: request.check)
            // A file that was written to or replaced meanwhile may have been read half.
            guard file.isUnchanged else { continue }
            guard parser.malformed.count == 0 else {
                throw SyncError(
                    .malformed,
                    "source \"\(configuration.name)\" holds malformed lines (\(parser.malformed.count)), so it is not used:\n"
                        + parser.malformed.description(file: path), source: configuration.name)
            }
            if let failure = intake.failure { throw failure }
            // A stamp that another change within the same tick would share proves nothing later.
            let cursor = file.stamp.isSettled(at: began) ? try? JSONEncoder().encode(file.stamp) : nil
            return Pull(reading: .full, asOf: began, cursor: cursor)
        }
        throw SyncError(
            .unreachable,
            "source \"\(configuration.name)\": \(path) kept changing while it was read, five times in a row",
            source: configuration.name)
    }

    private func read(
        _ file: TableFile, into intake: EntryIntake, report: inout SourceReport,
        check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> TableParser {
        let tag = intake.begin(source: index)
        var foreign = ForeignAddresses()
        var parser = TableParser(format)
        let reader = LineReader(file.descriptor, name: path, check: check)
        let noObject = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        try parser.parse(reader) { key, domain, flags, line in
            if intake.admits(domain, source: index) {
                intake.add(Entry(key: key, tag: tag, flags: flags, object: noObject))
            } else {
                foreign.note { "\(String(decoding: key, as: UTF8.self)) (line \(line))" }
            }
        }
        report.read = parser.entries
        report.skipped = parser.skipped
        report.foreign = foreign
        return parser
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
