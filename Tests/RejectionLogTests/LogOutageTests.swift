import Foundation
import GRDB
import Glibc
import LogTestSupport
import Synchronization
import System
import TestSupport
import Testing

@testable import RejectionLog

/// A log whose database can't be opened or written for a time.
@Suite struct LogOutageTests {
    let folder: TemporaryFolder
    let lines = Lines()
    let conditions = Conditions()

    init() throws {
        folder = try TemporaryFolder()
    }

    /// The conditions that a log reports.
    final class Conditions: Sendable {
        private let state = Mutex<[PartFailure?]>([])
        var all: [PartFailure?] { state.withLock { $0 } }
        func add(_ failure: PartFailure?) { state.withLock { $0.append(failure) } }
    }

    private func options(_ path: String) -> RejectionLog.Options {
        var options = RejectionLog.Options(path: path, queueCapacity: 64 << 10) { [lines] in lines.add($0) }
        options.condition = { [conditions] in conditions.add($0) }
        options.interval = 5
        options.retryPause = 5...20
        options.busyTimeout = 0.05
        return options
    }

    private func record(_ count: Int, in log: RejectionLog) {
        for index in 0..<count { Sample(time: Sample.base + Int64(index)).record(in: log) }
    }

    /// Checks that the database counts all recipients, each with a detail row or as thinned out.
    private func expectAll(_ count: Int, in path: String, _ comment: Comment? = nil) throws {
        let report = try wholeLog(path)
        #expect(report.totals.refused == count, comment)
        #expect(try allEntries(path).count + report.totals.thinned == count, comment)
    }

    private func waitUntil(_ condition: () throws -> Bool) rethrows {
        for _ in 0..<2_000 {
            if try condition() { return }
            Thread.sleep(forTimeInterval: 0.01)
        }
        Issue.record("the condition was not met within 20 s")
    }

    // MARK: Places

    @Test func `counts wait in memory until the folder is created`() throws {
        let path = folder.path + "/later/rejections.sqlite"
        let log = RejectionLog(options(path))
        record(3_000, in: log)
        #expect(!log.flush())
        let failure = try #require(log.failure)
        #expect(failure.reason.contains("its folder \(folder.path)/later: No such file or directory"))
        #expect(!failure.advice.isEmpty && failure.nextTry != nil)
        #expect(log.statistics.waiting == 3_000)
        #expect(log.statistics.failing && !log.statistics.isOpen)
        #expect(log.verdictTotals.map(\.count) == [3_000])
        try FileManager.default.createDirectory(atPath: folder.path + "/later", withIntermediateDirectories: false)
        waitUntil { log.failure == nil }
        #expect(log.statistics.waiting == 0 && log.statistics.isOpen)
        record(10, in: log)
        #expect(log.flush())
        try expectAll(3_010, in: path)
        #expect(lines.all.count == 2, "\(lines.all)")
        #expect(lines.all.last?.contains("with 3000 recipients") == true)
        #expect(conditions.all.last == .some(nil) && conditions.all.dropLast().allSatisfy { $0 != nil })
        log.close()
    }

    @Test func `a short failure while the log closes costs no counts`() throws {
        let place = folder.path + "/place"
        let path = place + "/rejections.sqlite"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
        var options = options(path)
        // The writer doesn't write in between.
        options.interval = 60_000
        options.report = { [lines] line in
            lines.add(line)
            if line.contains("No such file") { mkdir(place, 0o700) }
        }
        let log = RejectionLog(options)
        #expect(log.flush())
        try FileManager.default.removeItem(atPath: place)
        record(5, in: log)
        log.close()
        try expectAll(5, in: path)
        #expect(lines.all.allSatisfy { !$0.contains("uncounted") }, "\(lines.all)")
    }

    @Test func `each reason of a failure is reported once`() throws {
        let path = folder.path + "/place/rejections.sqlite"
        let log = RejectionLog(options(path))
        for _ in 0..<5 { #expect(!log.flush()) }
        try Data().write(to: URL(fileURLWithPath: folder.path + "/place"))
        for _ in 0..<5 { #expect(!log.flush()) }
        #expect(lines.all.count == 2, "\(lines.all)")
        #expect(Set(conditions.all.map { $0?.reason }).count == 2, "\(conditions.all)")
        #expect(log.failure?.since == conditions.all.first??.since)
        log.close()
    }

    @Test func `a log in use is opened when the other filter ends`() throws {
        let other = RejectionLog(.init(path: folder.database))
        other.flush()
        let log = RejectionLog(options(folder.database))
        record(100, in: log)
        #expect(!log.flush())
        #expect(log.failure?.reason.contains("in use by another filter") == true)
        record(100, in: other)
        other.close()
        waitUntil { log.failure == nil }
        log.close()
        try expectAll(200, in: folder.database)
    }

    @Test func `detail rows are passed on while the database cannot be opened`() throws {
        let received = SharedCount()
        let thinned = SharedCount()
        var options = options(folder.path + "/none/rejections.sqlite")
        options.received = { rows in
            received.value.add(rows.entries(limit: .max).entries.count, ordering: .relaxed)
            thinned.value.add(rows.thinned, ordering: .relaxed)
        }
        let log = RejectionLog(options)
        // Many times as many rows as the buffers hold.
        for _ in 0..<200 {
            record(20, in: log)
            log.flush()
        }
        #expect(received.value.load(ordering: .relaxed) == 4_000)
        #expect(thinned.value.load(ordering: .relaxed) == 0)
        #expect(log.statistics.waiting == 4_000)
        try FileManager.default.createDirectory(atPath: folder.path + "/none", withIntermediateDirectories: false)
        #expect(log.flush())
        log.close()
        try expectAll(4_000, in: folder.path + "/none/rejections.sqlite")
    }

    @Test func `counts that wait for long lose their domain and minute, not their sum`() throws {
        let path = folder.path + "/later/rejections.sqlite"
        let log = RejectionLog(options(path))
        let each = LogWriter.pendingLimit / 2
        for minute in 0..<Int64(3) {
            for number in 0..<each {
                var sample = Sample(time: Sample.base + minute * 60_000, domain: "d\(number).example")
                sample.outcome = number % 2 == 0 ? .accepted : .rejected
                sample.record(in: log)
            }
            #expect(!log.flush())
        }
        try FileManager.default.createDirectory(atPath: folder.path + "/later", withIntermediateDirectories: false)
        #expect(log.flush())
        let report = try wholeLog(path)
        #expect(report.totals.refused == 3 * each / 2 && report.totals.accepted == 3 * each / 2)
        let negative = try DatabaseQueue(path: path).read {
            try Int.fetchOne($0, sql: "SELECT count(*) FROM counter WHERE count < 0")
        }
        #expect(negative == 0)
        log.close()
    }

    // MARK: Disks

    /// Calls `body` with the path of a new file system, which is unmounted afterwards.
    private func withDisk(_ options: String, _ body: (String) throws -> Void) throws {
        let disk = folder.path + "/disk"
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
        try #require(mount("tmpfs", disk, "tmpfs", 0, options) == 0, "mount: \(systemMessage())")
        defer { umount2(disk, Int32(MNT_DETACH)) }
        try body(disk)
    }

    /// Fills a disk, and leaves `room` bytes; returns the path of the file that fills it.
    private func fill(_ disk: String, leaving room: Int) throws -> String {
        let filler = disk + "/filler"
        let descriptor = open(filler, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        let block = [UInt8](repeating: 1, count: 4_096)
        while write(descriptor, block, block.count) == block.count {}
        var status = stat()
        fstat(descriptor, &status)
        ftruncate(descriptor, max(0, status.st_size - off_t(room)))
        return filler
    }

    @Test(.enabled(if: geteuid() == 0, "mounting needs root"), arguments: 0..<24)
    func `a full disk costs no counts`(pages: Int) throws {
        try withDisk("size=1m") { disk in
            let path = disk + "/rejections.sqlite"
            let filler = try fill(disk, leaving: pages * 4_096)
            // The disk gets full at the start, while the database is created, or soon afterwards.
            let log = RejectionLog(options(path))
            var count = 0
            while log.flush(), count < 20_000 {
                record(500, in: log)
                count += 500
            }
            let reason = log.failure?.reason ?? ""
            #expect(reason.contains("the disk is full"), "\(pages): \(reason)")
            record(500, in: log)
            #expect(!log.flush())
            unlink(filler)
            waitUntil { log.failure == nil }
            log.close()
            try expectAll(count + 500, in: path, "\(pages) pages")
            #expect(try FileManager.default.contentsOfDirectory(atPath: disk).allSatisfy { !$0.contains("damaged") })
        }
    }

    @Test(.enabled(if: geteuid() == 0, "mounting needs root"), arguments: [false, true])
    func `a read-only disk costs no counts`(fromTheStart: Bool) throws {
        try withDisk("size=4m") { disk in
            let path = disk + "/rejections.sqlite"
            if !fromTheStart { RejectionLog(options(path)).close() }
            try #require(mount("tmpfs", disk, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
            let log = RejectionLog(options(path))
            record(1_000, in: log)
            #expect(!log.flush())
            #expect(log.failure?.reason.contains("Read-only file system") == true, "\(String(describing: log.failure))")
            #expect(log.failure?.advice.contains("mount") == true)
            try #require(mount("tmpfs", disk, "tmpfs", UInt(MS_REMOUNT), nil) == 0)
            waitUntil { log.failure == nil }
            log.close()
            try expectAll(1_000, in: path)
        }
    }

    @Test func `recording goes on while the disk hangs`() throws {
        let hanging = DispatchSemaphore(value: 0)
        var options = options(folder.database)
        options.patience = 0.01
        options.received = { _ in hanging.wait() }
        let log = RejectionLog(options)
        log.flush()
        record(1, in: log)
        waitUntil { log.failure?.reason.contains("has not answered") == true }
        // Recording doesn't wait, and each recipient is counted.
        record(100_000, in: log)
        for minute in 0..<Int64(40_000) {
            Sample(time: Sample.base + minute * 60_000, outcome: .accepted, reason: "listed").record(in: log)
        }
        #expect(log.statistics.waiting == 140_001)
        #expect(!log.close(within: .milliseconds(20)))
        #expect(lines.all.last?.contains("closed with 140001 recipients uncounted") == true, "\(lines.all)")
        for _ in 0..<1_000 { hanging.signal() }
        #expect(log.close(within: .seconds(60)))
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 100_001 && report.totals.accepted == 40_000)
    }

    @Test func `a log that cannot be written reports how many recipients are lost when it closes`() throws {
        let log = RejectionLog(options(folder.path + "/none/rejections.sqlite"))
        record(77, in: log)
        #expect(log.close(within: .seconds(60)))
        #expect(lines.all.last?.contains("closed with 77 recipients uncounted") == true, "\(lines.all)")
        #expect(log.close(within: .seconds(60)) && log.close())
    }

    // MARK: Damage

    enum Damage: String, CaseIterable {
        case text, zeroHeader, truncated, pages, noTables, schemaBelowZero, value
    }

    private func damage(_ path: String, _ kind: Damage) throws {
        let queue = try DatabaseQueue(path: path)
        try queue.inDatabase { db in
            switch kind {
            case .noTables: try db.execute(sql: "DROP TABLE counter")
            case .schemaBelowZero: try db.execute(sql: "PRAGMA user_version = -7")
            case .value: try db.execute(sql: "UPDATE state SET value = 9223372036854775807 WHERE name = 'next_detail'")
            case .text, .zeroHeader, .truncated, .pages: break
            }
            _ = try db.checkpoint(.truncate)
        }
        try queue.close()
        let file = URL(fileURLWithPath: path)
        var bytes = try Data(contentsOf: file)
        switch kind {
        case .text: bytes = Data(String(repeating: "no database\n", count: 5_000).utf8)
        case .zeroHeader: bytes.replaceSubrange(0..<100, with: [UInt8](repeating: 0, count: 100))
        case .truncated: bytes = bytes.prefix(bytes.count / 2 + 100)
        case .pages: for index in 4_096..<bytes.count { bytes[index] = 0xA5 }
        case .noTables, .schemaBelowZero, .value: break
        }
        try bytes.write(to: file)
    }

    @Test(arguments: Damage.allCases)
    func `a damaged database is moved aside, and a new one is begun`(kind: Damage) throws {
        let first = RejectionLog(options(folder.database))
        record(2_000, in: first)
        first.close()
        try damage(folder.database, kind)
        let before = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        let log = RejectionLog(options(folder.database))
        record(50, in: log)
        #expect(log.flush())
        #expect(log.failure == nil)
        let copy = try #require(log.statistics.damagedCopy)
        #expect(copy.hasPrefix(folder.database + ".damaged-"))
        #expect(
            try folder.damagedCopies()
                == ["", "-shm", "-wal"].map { (copy as NSString).lastPathComponent + $0 }.filter {
                    FileManager.default.fileExists(atPath: folder.file($0))
                })
        #expect(lines.all.count == 1, "\(lines.all)")
        #expect(lines.all.first?.contains("it was moved to \(copy)") == true, "\(lines.all)")
        // Only a connection that writes finds the other kinds of damage.
        if [.text, .zeroHeader, .truncated, .schemaBelowZero].contains(kind) {
            #expect(try Data(contentsOf: URL(fileURLWithPath: copy)) == before)
        }
        log.close()
        try expectAll(50, in: folder.database)
    }

    @Test func `damage found while writing costs no counts`() throws {
        let log = RejectionLog(options(folder.database))
        record(100, in: log)
        #expect(log.flush())
        let reader = try RejectionReader(path: folder.database)
        #expect(try reader.lastEntryID() == 100)
        // The root of a table points into another one.
        let other = try DatabaseQueue(path: folder.database)
        try other.inDatabase { db in
            try db.execute(sql: "PRAGMA writable_schema = ON")
            try db.execute(sql: "UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 'detail'")
            try db.execute(sql: "PRAGMA schema_version = 77")
        }
        try other.close()
        record(200, in: log)
        #expect(log.flush())
        #expect(log.statistics.damagedCopy != nil)
        #expect(lines.all.count == 1, "\(lines.all)")
        try expectAll(200, in: folder.database)
        // A reader that follows the log goes on with the new database.
        #expect(try reader.entries(after: 100).count == 200)
        log.close()
    }

    @Test func `damage found while tallying costs no counts`() throws {
        let log = RejectionLog(options(folder.database))
        record(100, in: log)
        #expect(log.flush())
        let other = try DatabaseQueue(path: folder.database)
        try other.inDatabase { try $0.execute(sql: "DROP TABLE open_tally") }
        try other.close()
        #expect(!log.tally())
        record(30, in: log)
        #expect(log.flush())
        #expect(log.statistics.damagedCopy != nil)
        log.close()
        try expectAll(30, in: folder.database)
    }

    @Test func `only the first of many damaged databases is moved aside`() throws {
        var options = options(folder.database)
        options.damagePause = 3_600
        for round in 0..<3 {
            let log = RejectionLog(options)
            for turn in 0..<3 {
                record(10, in: log)
                // The first damaged database is moved aside; the others stay, even after restarts.
                #expect(log.flush() == (round == 0 && turn < 2), "\(round) \(turn)")
                if log.failure == nil {
                    let other = try DatabaseQueue(path: folder.database)
                    try other.inDatabase { try $0.execute(sql: "DROP TABLE counter") }
                    try other.close()
                } else {
                    #expect(log.failure?.reason.contains("damaged again") == true)
                    #expect(log.failure?.nextTry != nil)
                }
            }
            log.close()
        }
        #expect(try folder.damagedCopies().filter { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }.count == 1)
    }

    @Test func `a damaged copy never overwrites another`() throws {
        let time = Date(timeIntervalSince1970: 1_796_000_000)
        for round in 0..<3 {
            let file = try LogFile(path: folder.database)
            try Data("\(round)".utf8).write(to: URL(fileURLWithPath: folder.database))
            if round == 1 { try Data("wal".utf8).write(to: URL(fileURLWithPath: folder.database + "-wal")) }
            let copy = try file.moveAside(at: time)
            #expect(try String(contentsOf: URL(fileURLWithPath: copy), encoding: .utf8) == "\(round)")
            #expect(file.newestDamaged == time)
        }
        let name = "rejections.sqlite.damaged-20261130T005320Z"
        #expect(try folder.damagedCopies() == [name, name + "-2", name + "-2-wal", name + "-3"])
    }

    @Test func `counts wait until another program's database is moved away`() throws {
        let queue = try DatabaseQueue(path: folder.database)
        try queue.inDatabase { try $0.execute(sql: "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)") }
        try queue.close()
        let before = try Data(contentsOf: URL(fileURLWithPath: folder.database))
        let log = RejectionLog(options(folder.database))
        record(500, in: log)
        for _ in 0..<3 { #expect(!log.flush()) }
        #expect(log.failure?.reason.contains("another program's database") == true)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.database)) == before)
        #expect(rename(folder.database, folder.file("moved")) == 0)
        waitUntil { log.failure == nil }
        log.close()
        try expectAll(500, in: folder.database)
        #expect(try folder.damagedCopies() == [])
    }

    @Test func `a new database is begun after the old one was removed`() throws {
        let log = RejectionLog(options(folder.database))
        record(10, in: log)
        #expect(log.flush())
        for suffix in ["", "-wal", "-shm"] { #expect(unlink(folder.database + suffix) == 0) }
        record(20, in: log)
        #expect(log.flush())
        #expect(lines.all.count == 1 && lines.all.first?.contains("moved away or removed") == true, "\(lines.all)")
        try expectAll(20, in: folder.database)
        #expect(try allEntries(folder.database).first?.id == 11)
        log.close()
    }
}

/// A count that several threads change.
final class SharedCount: Sendable {
    let value = Atomic<Int>(0)
}
