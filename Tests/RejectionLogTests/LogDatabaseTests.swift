import Foundation
import GRDB
import Glibc
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct LogDatabaseTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Why the log at a path can't be opened; nil if it can.
    private func refusal(_ path: String) -> PartFailure? {
        let log = RejectionLog(.init(path: path))
        defer { log.close() }
        log.flush()
        return log.failure
    }

    private func mode(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    @Test func `only the owner may read the files`() throws {
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        log.flush()
        for suffix in ["", "-wal", "-shm", "-lock"] {
            #expect(try mode(folder.database + suffix) == 0o600, "\(suffix)")
        }
        log.close()
    }

    /// GRDB's subscript would end the process for these values; the reader reports them instead.
    @Test(arguments: [
        "UPDATE detail SET time = 'x'", "UPDATE detail SET recipient = x'fffe00'", "UPDATE detail SET observed = 'q'",
    ])
    func `a value of a wrong type is an error`(_ change: String) throws {
        let reader = try damaged(by: change)
        #expect(throws: LogError.self, "\(change)") { try reader.entries(after: 0) }
        #expect(throws: LogError.self, "\(change)") { for entry in try reader.entries() { _ = try entry.get() } }
    }

    @Test func `a counter out of range is an error`() throws {
        let reader = try damaged(by: "UPDATE counter SET count = 9223372036854775807")
        let query = LogSelection(since: allTime.since, until: allTime.until)
        let error = #expect(throws: LogError.self) { try reader.summary(query) }
        #expect(error?.code == .corrupt)
        #expect(error?.description.contains("the rejection log \(folder.database) is damaged: ") == true)
    }

    @Test func `a row with a time out of range is read with the last possible time`() throws {
        let reader = try damaged(by: "UPDATE detail SET time = 9223372036854775807")
        #expect(try reader.entries(after: 0).allSatisfy { $0.time > Date(timeIntervalSince1970: 0) })
    }

    @Test(arguments: [Int64.max, Int64.min, -1])
    func `rows with a time out of range are read once`(time: Int64) throws {
        let log = RejectionLog(.init(path: folder.database))
        for _ in 0..<1_200 { Sample().record(in: log) }
        log.close()
        try DatabaseQueue(path: folder.database).write {
            try $0.execute(sql: "UPDATE detail SET time = ?", arguments: [time])
        }
        #expect(
            try RejectionReader(path: folder.database).entries().prefix(5_000).map { try $0.get().id }.count == 1_200)
    }

    /// A reader of a log with two rejections that another program has changed.
    private func damaged(by change: String) throws -> RejectionReader {
        let log = RejectionLog(.init(path: folder.database))
        for reason in ["unknown", "relay"] { Sample(reason: reason).record(in: log) }
        log.close()
        try DatabaseQueue(path: folder.database).write { db in
            // A damaged file may have values that the schema forbids.
            try db.execute(sql: "PRAGMA ignore_check_constraints = ON")
            try db.execute(sql: change)
            #expect(db.changesCount > 0)
        }
        return try RejectionReader(path: folder.database)
    }

    @Test func `the log goes on if its table of states was emptied`() throws {
        let first = RejectionLog(.init(path: folder.database))
        for _ in 0..<10 { Sample().record(in: first) }
        first.close()
        try DatabaseQueue(path: folder.database).write { try $0.execute(sql: "DELETE FROM state") }
        let second = RejectionLog(.init(path: folder.database))
        for _ in 0..<10 { Sample().record(in: second) }
        #expect(second.flush())
        second.close()
        #expect(try wholeLog(folder.database).totals.refused == 20)
    }

    @Test func `a file mode that the administrator widened is kept`() throws {
        RejectionLog(.init(path: folder.database)).close()
        for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: folder.database + suffix) }
        RejectionLog(.init(path: folder.database)).close()
        #expect(chmod(folder.database, 0o640) == 0)
        for suffix in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: folder.database + suffix) }
        RejectionLog(.init(path: folder.database)).close()
        #expect(try mode(folder.database) == 0o640)
        #expect(try mode(folder.database + "-wal") == 0o640)
    }

    @Test func `a database of a newer version is rejected and not changed`() throws {
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        log.close()
        let queue = try DatabaseQueue(path: folder.database)
        try queue.inDatabase { db in
            try db.execute(sql: "PRAGMA user_version = 9")
            try db.checkpoint(.truncate)
        }
        try queue.close()
        let before = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        let failure = try #require(refusal(folder.database))
        #expect(failure.reason.contains("was written by a newer Postern (schema 9; this one knows 3)"))
        let error = #expect(throws: LogError.self) { try RejectionReader(path: folder.database) }
        #expect(error?.code == .newerVersion)
        #expect(error?.reason == failure.reason)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.database)) == before)
    }

    @Test func `a newer version in the write-ahead log is rejected`() throws {
        RejectionLog(.init(path: folder.database)).close()
        let queue = try DatabaseQueue(path: folder.database)
        try queue.inDatabase { try $0.execute(sql: "PRAGMA user_version = 9") }
        let crashed = folder.path + "/crashed.sqlite"
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: folder.database + suffix, toPath: crashed + suffix)
        }
        let before = try ["", "-wal"].map { try Data(contentsOf: URL(fileURLWithPath: crashed + $0)) }
        #expect(!before[1].isEmpty)
        #expect(refusal(crashed)?.reason.contains("newer Postern") == true)
        #expect(try ["", "-wal"].map { try Data(contentsOf: URL(fileURLWithPath: crashed + $0)) } == before)
    }

    @Test func `another program's database is rejected and not changed`() throws {
        let queue = try DatabaseQueue(path: folder.database)
        try queue.inDatabase { try $0.execute(sql: "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)") }
        try queue.close()
        let before = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        #expect(refusal(folder.database)?.reason.contains("another program's database") == true)
        #expect(throws: LogError.self) { try RejectionReader(path: folder.database) }
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.database)) == before)
    }

    @Test func `a file that is not a database is moved aside unchanged`() throws {
        let text = Data(String(repeating: "not a database\n", count: 500).utf8)
        try text.write(to: URL(fileURLWithPath: folder.database))
        let error = #expect(throws: LogError.self) { try RejectionReader(path: folder.database) }
        #expect(error?.code == .corrupt)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.database)) == text)
        #expect(refusal(folder.database) == nil)
        let copy = try #require(try folder.damagedCopies().first)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file(copy))) == text)
        try FileManager.default.createDirectory(atPath: folder.path + "/folder", withIntermediateDirectories: true)
        #expect(refusal(folder.path + "/folder")?.reason.contains("not a regular file") == true)
    }

    @Test func `readers report a damaged database, and the writer moves it aside`() throws {
        let log = RejectionLog(.init(path: folder.database))
        for _ in 0..<1_000 { Sample().record(in: log) }
        log.close()
        let compact = try DatabaseQueue(path: folder.database)
        _ = try compact.inDatabase { try $0.checkpoint(.truncate) }
        try compact.close()
        var bytes = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        // All pages but the first: the schema is still there, the tables are not.
        for index in 4_096..<bytes.count { bytes[index] = 0x5A }
        try bytes.write(to: URL(fileURLWithPath: folder.database))
        let error = #expect(throws: LogError.self) { try wholeLog(folder.database) }
        #expect(error?.code == .corrupt)
        #expect(error?.description.contains("the rejection log \(folder.database) is damaged") == true)
        #expect(refusal(folder.database) == nil)
        #expect(try folder.damagedCopies().contains { $0.hasSuffix("Z") })
        #expect(try wholeLog(folder.database).totals.refused == 0)
    }

    @Test func `a second filter cannot open the database`() throws {
        let log = RejectionLog(.init(path: folder.database))
        log.flush()
        let link = folder.path + "/link"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: folder.path)
        for path in [folder.database, link + "/rejections.sqlite"] {
            let failure = try #require(refusal(path))
            #expect(failure.reason.contains("in use by another filter (process \(getpid()))"))
            #expect(failure.nextTry != nil)
        }
        log.close()
        #expect(refusal(folder.database) == nil)
    }

    @Test(arguments: ["", "-wal", "-shm", "-journal", "-lock"])
    func `a symbolic link in place of a file is not followed`(suffix: String) throws {
        let target = try folder.write("precious", as: "precious")
        let link = folder.database + suffix
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
        let failure = try #require(refusal(folder.database))
        #expect(failure.reason.contains("\(link)") && failure.reason.contains("symbolic link"), "\(failure)")
        #expect(try String(contentsOfFile: target, encoding: .utf8) == "precious")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == target)
        #expect(try folder.damagedCopies().isEmpty)
        if suffix.isEmpty {
            let error = #expect(throws: LogError.self) { try RejectionReader(path: folder.database) }
            #expect(error?.reason == failure.reason)
        }
    }

    @Test func `a dangling symbolic link is not followed to create a file`() throws {
        let target = folder.file("elsewhere")
        try FileManager.default.createSymbolicLink(atPath: folder.database, withDestinationPath: target)
        #expect(refusal(folder.database)?.reason.contains("symbolic link") == true)
        #expect(!FileManager.default.fileExists(atPath: target))
    }

    @Test(.enabled(if: geteuid() == 0, "needs root"))
    func `files that root creates belong to the folder's owner`() throws {
        #expect(chown(folder.path, 65_534, 65_534) == 0)
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        #expect(log.flush())
        _ = try wholeLog(folder.database)
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            var status = stat()
            #expect(lstat(folder.file(name), &status) == 0 && status.st_uid == 65_534, "\(name)")
        }
        log.close()
    }

    /// The kernel drops all record locks of a process on a file when it closes any descriptor of that file.
    @Test func `a second log and a reader keep the record locks of the first log`() throws {
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        #expect(log.flush())
        var status = stat()
        #expect(stat(folder.database, &status) == 0 && status.st_nlink == 1)
        func locks() throws -> Int {
            let file = ":\(status.st_ino) "
            return try String(contentsOfFile: "/proc/locks", encoding: .utf8).split(separator: "\n")
                .filter { $0.contains(file) && $0.contains(" POSIX ") && $0.contains(" \(getpid()) ") }.count
        }
        let before = try locks()
        #expect(before > 0)
        for _ in 0..<3 {
            #expect(refusal(folder.database) != nil)
            #expect(try wholeLog(folder.database).totals.refused == 1)
            #expect(try locks() == before)
        }
        #expect(!FileManager.default.fileExists(atPath: folder.database + "-new"))
        log.close()
    }

    @Test func `a missing folder is reported at once`() throws {
        let missing = try #require(refusal(folder.path + "/none/rejections.sqlite"))
        #expect(missing.reason.contains("its folder \(folder.path)/none: No such file or directory"))
        try Data().write(to: URL(fileURLWithPath: folder.path + "/file"))
        #expect(refusal(folder.path + "/file/rejections.sqlite")?.reason.contains("is not a folder") == true)
    }

    @Test(.enabled(if: geteuid() != 0, "root may write everywhere"))
    func `a folder without write permission is reported at once`() throws {
        #expect(chmod(folder.path, 0o500) == 0)
        defer { chmod(folder.path, 0o700) }
        #expect(refusal(folder.database)?.reason.contains("must be writable: Permission denied") == true)
    }

    @Test func `a reader of a missing database reports that there is no log yet`() throws {
        do {
            _ = try RejectionReader(path: folder.database)
            Issue.record("the reader opened a missing database")
        } catch {
            #expect(error.code == .notFound)
            #expect(error.description.contains("no rejection log yet at \(folder.database)"))
        }
        #expect(!FileManager.default.fileExists(atPath: folder.database))
    }

    @Test func `a reader does not change the database`() throws {
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        log.close()
        let before = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        #expect(try wholeLog(folder.database).totals.refused == 1)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.database)) == before)
    }
}
