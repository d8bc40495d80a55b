import Foundation
import GRDB
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct SyncStateTests {
    @Test func aNewerStateIsRefusedAndLeftAlone() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        _ = try Synchronizer(folder.configuration()).run()
        try sql(folder, "PRAGMA user_version = 99")
        let before = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        let error = try #require(syncError { try Synchronizer(folder.configuration()).run() })
        #expect(error.kind == .state)
        #expect(error.exitStatus == 74)
        #expect(error.description.contains("newer version"))
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite"))) == before)
        #expect(SyncStatus(state: folder("state.sqlite")) == nil)
        #expect(Provenance.all(of: "u0@example.com", state: folder("state.sqlite")).isEmpty)
    }

    @Test(arguments: [
        "generation = 'x', created = 'y'", "generation = 9223372036854775807", "recipients = -1",
        "recipients = 9000000000000000000, catch_all_domains = 9000000000000000000", "before_created = x'00'",
    ])
    func anImpossibleListInTheStateIsAnError(_ change: String) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        _ = try Synchronizer(folder.configuration()).run()
        try sql(folder, "UPDATE decision SET \(change)")
        try? FileManager.default.removeItem(atPath: folder("recipients.index"))
        for dryRun in [true, false] {
            let error = syncError { try Synchronizer(folder.configuration()).run(dryRun: dryRun) }
            #expect(error?.kind == .state, "\(change)")
        }
    }

    @Test func theGenerationContinuesFromTheSnapshotsOwn() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        var builder = IndexBuilder()
        for number in 0..<3 { builder.add("u\(number)@example.com") }
        try builder.publish(to: folder("recipients.index"), generation: (1 << 52) - 1, sources: [])
        let report = try Synchronizer(folder.configuration()).run()
        #expect(report.generation == 1 << 52)
    }

    @Test func anotherProgramsDatabaseIsLeftAlone() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try sql(folder, "CREATE TABLE other (x); PRAGMA user_version = 1")
        let error = try #require(syncError { try Synchronizer(folder.configuration()).run() })
        #expect(error.kind == .state)
        #expect(error.description.contains("another program's database"))
    }

    @Test func aFileThatIsntADatabaseIsRefused() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try folder.write("state.sqlite", String(repeating: "not a database ", count: 100))
        let error = try #require(syncError { try Synchronizer(folder.configuration()).run() })
        #expect(error.kind == .state)
        #expect(error.description.contains(folder("state.sqlite")))
    }

    @Test func aMissingFolderIsReportedBeforeSourcesAreRead() throws {
        let folder = try TemporaryFolder()
        var configuration = folder.configuration()
        configuration.statePath = folder("none/state.sqlite")
        var error = try #require(syncError { try Synchronizer(configuration).prepare() })
        #expect(error.kind == .state)
        #expect(error.description.contains("no folder \(folder("none"))"))
        #expect(syncError { try Synchronizer(configuration).run() }?.description == error.description)
        configuration = folder.configuration()
        configuration.indexPath = folder("none/recipients.index")
        error = try #require(syncError { try Synchronizer(configuration).prepare() })
        #expect(error.kind == .state)
        #expect(error.description.contains(folder("none")))
        #expect(throws: Never.self) { try Synchronizer(folder.configuration()).prepare() }
    }

    @Test func aReadableStateIsMadePrivate() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try folder.write("state.sqlite", "")
        chmod(folder("state.sqlite"), 0o644)
        _ = try Synchronizer(folder.configuration()).run()
        var status = stat()
        stat(folder("state.sqlite"), &status)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test func severalObjectsMayListTheSameAddress() throws {
        let folder = try TemporaryFolder()
        let state = try SyncState(path: folder("state.sqlite"))
        let found = try state.transaction(.immediate) { database in
            let writer = try EntryWriter(database)
            var key = "a@example.com"
            for (object, flags) in [([1, 2], 1), ([], 0), ([1], 2), ([1], 3)] as [([UInt8], UInt8)] {
                try key.withUTF8 { key in
                    try object.withUnsafeBufferPointer { object in
                        try writer.insert(
                            SourceEntry(key: key, tag: 0, flags: .init(rawValue: flags), object: object), source: 7)
                    }
                }
            }
            var found: [[UInt8]] = []
            let cursor = try EntryCursor(database)
            while let entry = try cursor.next() { found.append(Array(entry.object) + [entry.flags.rawValue]) }
            return (found, .commit)
        }
        #expect(found == [[0], [1, 3], [1, 2, 1]])
    }

    @Test func theStatusDescribesTheListInForce() throws {
        let folder = try TemporaryFolder()
        #expect(SyncStatus(state: folder("state.sqlite")) == nil)
        try folder.write("one.table", users(3) + "@example.org\n")
        let report = try Synchronizer(folder.configuration()).run()
        let status = try #require(SyncStatus(state: folder("state.sqlite")))
        #expect(status.generation == 1)
        #expect(status.recipients == 3)
        #expect(status.sources.map(\.name) == ["one"])
        #expect(status.sources.map(\.recipients) == [4])
        #expect(status.refusal == nil)
        #expect(status.created <= report.started.addingTimeInterval(60))
        let json = try JSONEncoder().encode(status)
        #expect(try JSONDecoder().decode(SyncStatus.self, from: json).recipients == 3)
        #expect(try JSONDecoder().decode(SyncReport.self, from: JSONEncoder().encode(report)).recipients == 3)
    }

    private func sql(_ folder: TemporaryFolder, _ sql: String) throws {
        let queue = try DatabaseQueue(path: folder("state.sqlite"))
        try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
        try queue.close()
    }
}
