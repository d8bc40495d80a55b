import Foundation
import GRDB
import Glibc
import RecipientIndex
import SyncTestSupport
import System
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct SynchronizerTests {
    @Test func theRecipientsOfAFileArePublished() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            """
            a@example.com OK
            A@Example.com again
            b+detail@example.com OK
            @example.org x
            "john doe"@example.com x
            c@example.net foreign
            example.com declared
            root local

            """)
        let report = try Synchronizer(folder.configuration(format: .postfix)).run()
        #expect(report.outcome == .published)
        #expect(report.generation == 1)
        #expect(report.recipients == 3)
        #expect(report.catchAllDomains == 1)
        #expect(
            report.added.addresses == ["@example.org", "a@example.com", "b+detail@example.com", "john doe@example.com"])
        let source = report.sources[0]
        #expect(source.report.read == 8)
        #expect(source.recipients == 4)
        #expect(source.report.duplicates == 1)
        #expect(source.report.foreign.count == 1)
        #expect(source.report.foreign.first == ["c@example.net (line 6)"])
        #expect(source.report.skipped.domains == 1)
        #expect(source.report.skipped.withoutDomain == 1)
        let snapshot = try folder.snapshot()
        #expect(snapshot.lookup("a@example.com") == [])
        #expect(snapshot.lookup("@example.org") == .catchAll)
        #expect(snapshot.lookup("john doe@example.com") == [])
        #expect(snapshot.lookup("c@example.net") == nil)
        #expect(snapshot.info.generation == 1)
        #expect(snapshot.info.sources.map(\.name) == ["one"])
        #expect(snapshot.info.sources.map(\.recipients) == [4])
        #expect(mode(folder("state.sqlite")) == 0o600)
        #expect(mode(folder("state.sqlite.lock")) == 0o600)
    }

    @Test func aRecipientStaysWhileAnySourceListsIt() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(20) + "both@example.com\n")
        try folder.write("two.table", users(20, from: 100) + "both@example.com\n")
        let synchronizer = try Synchronizer(folder.configuration(["one", "two"]))
        #expect(try synchronizer.run().recipients == 41)
        try folder.write("one.table", users(19, from: 1) + "new@example.com\n")
        let report = try synchronizer.run()
        #expect(report.outcome == .published)
        #expect(report.generation == 2)
        #expect(report.added.addresses == ["new@example.com"])
        #expect(report.removed.addresses == ["u0@example.com"])
        #expect(report.sources.map(\.recipients) == [20, 21])
        let snapshot = try folder.snapshot()
        #expect(snapshot.lookup("both@example.com") != nil)
        #expect(snapshot.lookup("u0@example.com") == nil)
        #expect(snapshot.lookup("new@example.com") != nil)
        #expect(snapshot.info.sources.map(\.recipients) == [20, 21])
    }

    @Test func anUnchangedListLeavesTheSnapshotAsItIs() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(5))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        let stamp = FileStamp(path: folder("recipients.index"))
        #expect(stamp != nil)
        let report = try synchronizer.run()
        #expect(report.outcome == .unchanged)
        #expect(report.generation == 1)
        #expect(report.recipients == 5)
        #expect(FileStamp(path: folder("recipients.index")) == stamp)
        // The same recipients in another order are the same list.
        try folder.write("one.table", users(5).split(separator: "\n").reversed().joined(separator: "\n"))
        #expect(try synchronizer.run().outcome == .unchanged)
        #expect(FileStamp(path: folder("recipients.index")) == stamp)
    }

    @Test func anUnchangedListGetsANewDateBeforeItIsStale() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(5))
        var configuration = folder.configuration()
        configuration.maxAge = .zero
        let synchronizer = try Synchronizer(configuration)
        _ = try synchronizer.run()
        let before = try folder.snapshot().info
        let report = try synchronizer.run()
        #expect(report.outcome == .refreshed)
        let after = try folder.snapshot().info
        #expect(after.created > before.created)
        #expect(after.generation == before.generation + 1)
        #expect(after.recipients == 5)
    }

    @Test func aDateInTheFutureIsCorrected() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(5))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        let ahead = Date(milliseconds: Date().milliseconds + 86_400_000)
        let state = try SyncState(path: folder("state.sqlite"))
        let list = try state.transaction(.immediate) { database in
            var list = try SyncState.approvedList(database)
            list.created = ahead
            try SyncState.store(list, database)
            return (list, .commit)
        }
        try SyncPass(synchronizer, on: state, SyncOptions()).publish(list)
        #expect(try folder.snapshot().info.created == ahead)
        #expect(try synchronizer.run().outcome == .refreshed)
        #expect(try folder.snapshot().info.created <= Date())
    }

    @Test func anUntouchedFileIsNotReadAgain() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("one.table", users(5))
        let synchronizer = try Synchronizer(folder.configuration())
        let first = try synchronizer.run()
        #expect(first.sources[0].reading == .full)
        // A file changed just now might change again unseen.
        #expect(try synchronizer.run().sources[0].reading == .full)
        // The status-change time can't be set back, so this waits.
        while FileStamp(path: path)?.isSettled(at: Date()) != true { usleep(50_000) }
        #expect(try synchronizer.run().sources[0].reading == .full)
        let report = try synchronizer.run()
        #expect(report.sources[0].reading == .unchanged)
        #expect(report.sources[0].recipients == 5)
        #expect(report.sources[0].report.read == 5)
        #expect(report.recipients == 5)
        let asOf = try #require(report.sources[0].lastSynced)
        #expect(asOf > (try #require(first.sources[0].lastSynced)))
        // New guards are asked though the file is the same.
        var guarded = folder.configuration()
        guarded.canaries = ["ceo@example.com"]
        #expect(syncError { try Synchronizer(guarded).run() }?.kind == .guardRefused)
        try folder.write("one.table", users(6))
        #expect(try synchronizer.run().added.addresses == ["u5@example.com"])
    }

    @Test func aDryRunWritesNothing() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(5))
        let synchronizer = try Synchronizer(folder.configuration())
        let first = try synchronizer.run(dryRun: true)
        #expect(first.outcome == .dryRun)
        #expect(first.added.count == 5)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["one.table"])
        _ = try synchronizer.run()
        let stamps = ["state.sqlite", "recipients.index"].map { FileStamp(path: folder($0)) }
        try folder.write("one.table", users(2) + "new@example.com\n")
        let report = try synchronizer.run(dryRun: true)
        #expect(report.added.addresses == ["new@example.com"])
        #expect(report.removed.addresses == ["u2@example.com", "u3@example.com", "u4@example.com"])
        #expect(report.refusal?.violations.map(\.rule).contains(.maxShrink) == true)
        #expect(["state.sqlite", "recipients.index"].map { FileStamp(path: folder($0)) } == stamps)
        #expect(try folder.snapshot().lookup("u4@example.com") != nil)
    }

    @Test func malformedLinesOfAllSourcesAreReportedAndTheOldIndexStays() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try folder.write("two.table", users(3, from: 10))
        let synchronizer = try Synchronizer(folder.configuration(["one", "two"]))
        _ = try synchronizer.run()
        try folder.write("one.table", "new@example.com\nbroken\n" + users(3))
        try folder.write("two.table", "\nbroken too\n")
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .malformed)
        #expect(error.exitStatus == 65)
        #expect(error.description.contains(folder("one.table") + ":2: "))
        #expect(error.description.contains(folder("two.table") + ":2: "))
        #expect(try folder.snapshot().lookup("new@example.com") == nil)
        #expect(try folder.snapshot().lookup("u10@example.com") != nil)
        let failures = SyncStatus(state: folder("state.sqlite"))?.failures ?? [:]
        #expect(Set(failures.keys) == ["one", "two"])
        try folder.write("one.table", "new@example.com\n" + users(3))
        try folder.write("two.table", users(3, from: 10))
        #expect(try synchronizer.run().added.addresses == ["new@example.com"])
        #expect(SyncStatus(state: folder("state.sqlite"))?.failures == [:])
    }

    @Test(arguments: ["missing", "directory", "pipe"]) func aSourceThatCantBeReadIsReported(_ what: String) throws {
        let folder = try TemporaryFolder()
        if what == "directory" { mkdir(folder("one.table"), 0o755) }
        if what == "pipe" { mkfifo(folder("one.table"), 0o600) }
        let error = try #require(syncError { try Synchronizer(folder.configuration()).run() })
        #expect(error.kind == .unreachable)
        #expect(error.exitStatus == 75)
        #expect(error.source == "one")
        #expect(error.description.contains(folder("one.table")))
        #expect(!FileManager.default.fileExists(atPath: folder("recipients.index")))
    }

    @Test func anUnreachableSourceKeepsItsLastListAndTheOthersArePublished() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try folder.write("two.table", users(3, from: 10))
        var configuration = folder.configuration(["one", "two"])
        configuration.maxAge = .zero
        let synchronizer = try Synchronizer(configuration)
        _ = try synchronizer.run()
        let created = try folder.snapshot().info.created
        unlink(folder("one.table"))
        try folder.write("two.table", users(3, from: 10) + "new@example.com\n")
        let report = try synchronizer.run()
        #expect(report.failures.map(\.name) == ["one"])
        #expect(report.sources.map(\.reading) == [.failed, .full])
        #expect(report.added.addresses == ["new@example.com"])
        #expect(report.removed.count == 0)
        let snapshot = try folder.snapshot()
        #expect(snapshot.lookup("u0@example.com") != nil)
        #expect(snapshot.lookup("new@example.com") != nil)
        // The list is as old as its oldest part, whatever the others do.
        #expect(snapshot.info.created.timeIntervalSince(created) < 0.01)
        #expect(Array((SyncStatus(state: folder("state.sqlite"))?.failures ?? [:]).keys) == ["one"])
        // With no source left to read there is nothing to go on with.
        unlink(folder("two.table"))
        #expect(syncError { try synchronizer.run() }?.kind == .unreachable)
    }

    @Test func aSourceWithoutAListMustBeReadable() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        _ = try Synchronizer(folder.configuration(["one"])).run()
        let error = try #require(syncError { try Synchronizer(folder.configuration(["one", "two"])).run() })
        #expect(error.kind == .unreachable)
        #expect(error.source == "two")
    }

    @Test func aChangedConfigurationOfASourceIsReported() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3) + users(2, at: "example.org"))
        _ = try Synchronizer(folder.configuration()).run()
        let narrow = try Synchronizer(folder.configuration(relay: ["example.com"]))
        // Recipients of a domain that is no longer relayed don't count as lost.
        let report = try narrow.run()
        #expect(report.removed.count == 2)
        #expect(report.notes.contains { $0.contains("\"one\"") && $0.contains("changed") })
        #expect(report.sources[0].report.foreign.count == 2)
        #expect(try folder.snapshot().lookup("u0@example.org") == nil)
        // A renamed source is another source with the same recipients.
        rename(folder("one.table"), folder("two.table"))
        let renamed = try Synchronizer(folder.configuration(["two"], relay: ["example.com"])).run()
        #expect(renamed.removed.count == 0)
        #expect(renamed.outcome == .refreshed)
        #expect(renamed.notes.contains { $0.contains("\"one\" is no longer configured") })
        #expect(try folder.snapshot().info.sources.map(\.name) == ["two"])
    }

    @Test func aSourceListsRecipientsOfItsOwnDomainsOnly() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", "a@example.com\na@example.org\na@sub.example.com\n")
        var configuration = folder.configuration()
        configuration.sources[0].domains = ["example.com"]
        var report = try Synchronizer(configuration).run(dryRun: true)
        #expect(report.added.addresses == ["a@example.com"])
        configuration.subdomains = true
        report = try Synchronizer(configuration).run(dryRun: true)
        #expect(report.added.addresses == ["a@example.com", "a@sub.example.com"])
    }

    @Test func aSyncEndsWhenItsCheckThrows() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(5))
        let synchronizer = try Synchronizer(folder.configuration())
        let error = syncError {
            try synchronizer.run(SyncOptions { () throws(SyncError) in throw SyncError(.cancelled, "stop") })
        }
        #expect(error?.kind == .cancelled)
        #expect(!FileManager.default.fileExists(atPath: folder("recipients.index")))
        #expect(try synchronizer.run().recipients == 5)
    }

    @Test func duplicateSourceNamesAndInvalidCanariesAreErrors() throws {
        let folder = try TemporaryFolder()
        #expect(syncError { try Synchronizer(folder.configuration(["one", "one"])) }?.kind == .configuration)
        for canary in ["nobody", "@example.com", "a@b@", ""] {
            var configuration = folder.configuration()
            configuration.canaries = [canary]
            #expect(syncError { try Synchronizer(configuration) }?.kind == .configuration, "\(canary)")
        }
    }

    @Test func randomChangesOfManySourcesAreMergedCorrectly() throws {
        var generator = SeededGenerator.announced("manySourcesGrownAndShrunkAtRandomAreMergedRight")
        let seed = generator.seed
        let folder = try TemporaryFolder()
        let names = ["one", "two", "three"]
        var configuration = folder.configuration(names)
        configuration.minimum = 0
        let synchronizer = try Synchronizer(configuration)
        var before: Set<String> = []
        for round in 0..<15 {
            var after: Set<String> = []
            for name in names {
                let listed = (0..<Int.random(in: 0..<30, using: &generator)).map { _ in
                    Int.random(in: 0..<8, using: &generator) == 0
                        ? "@example.org" : "u\(Int.random(in: 0..<40, using: &generator))@example.com"
                }
                after.formUnion(listed)
                try folder.write("\(name).table", listed.joined(separator: "\n"))
            }
            let report = try synchronizer.run(acceptShrink: true)
            #expect(Set(report.added.addresses) == after.subtracting(before), "seed \(seed) round \(round)")
            #expect(Set(report.removed.addresses) == before.subtracting(after), "seed \(seed) round \(round)")
            #expect(report.recipients + report.catchAllDomains == after.count, "seed \(seed) round \(round)")
            let snapshot = try folder.snapshot()
            for key in (0..<40).map({ "u\($0)@example.com" }) + ["@example.org"] {
                #expect((snapshot.lookup(key) != nil) == after.contains(key), "seed \(seed) round \(round) \(key)")
            }
            before = after
        }
    }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        stat(path, &status)
        return status.st_mode & 0o777
    }
}
