import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct GuardTests {
    @Test(arguments: [
        (0.1, 0, 1), (0.1, 5, 1), (0.1, 10, 1), (0.1, 19, 1), (0.1, 20, 2), (0.1, 1_000_000, 100_000), (0, 1_000, 0),
        (-1, 1_000, 0), (1, 7, 7), (5, 7, 7), (0.001, 100, 1),
    ]) func allowance(_ share: Double, of count: Int, is allowed: Int) {
        #expect(Guards(maxShrink: share, minimum: 0, canaries: []).allowance(of: count) == allowed)
    }

    @Test func aShrinkingListIsRefusedUntilItIsAccepted() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(100))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        try folder.write("one.table", users(90))
        #expect(try synchronizer.run().removed.count == 10, "just within the limit")
        try folder.write("one.table", users(80))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .guardRefused)
        #expect(error.exitStatus == 1)
        let report = try #require(error.report)
        #expect(report.outcome == .refused)
        #expect(report.generation == 2)
        #expect(report.removed.count == 10)
        let refusal = try #require(report.refusal)
        #expect(refusal.removed == 10)
        #expect(refusal.first == (80..<90).map { "u\($0)@example.com" })
        #expect(refusal.violations.map(\.scope) == ["all", "source one", "domain example.com"])
        #expect(refusal.acceptable)
        for part in [
            "20 of 100 recipients", "20 %", "max_shrink allows 10 %", "10 now and 10 before",
            "u80@example.com, u81@example.com",
            "--accept-shrink", "stays in force",
        ] {
            #expect(error.description.contains(part), "\(part) in \(error.description)")
        }
        #expect(try folder.snapshot().lookup("u85@example.com") != nil)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal == refusal)
        // Refused again as long as it is so; accepted for one run only.
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        let accepted = try synchronizer.run(acceptShrink: true)
        #expect(accepted.outcome == .published)
        #expect(accepted.notes.filter { $0.hasPrefix("accepted: ") }.count == 3)
        #expect(try folder.snapshot().lookup("u85@example.com") == nil)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal == nil)
        try folder.write("one.table", users(40))
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
    }

    @Test func aListWithoutLossesEndsTheRefusal() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(10))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        try folder.write("one.table", users(1))
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        try folder.write("one.table", users(10))
        #expect(try synchronizer.run().outcome == .unchanged)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal == nil)
    }

    @Test func aShortListMayLoseOneRecipientPerWindow() throws {
        let folder = try TemporaryFolder()
        let clock = TestClock()
        let synchronizer = try Synchronizer(folder.configuration(), clock: clock.clock) { _ throws(SyncError) in }
        for count in [4, 3, 2, 1] {
            try folder.write("one.table", users(count))
            #expect(try synchronizer.run().recipients == count)
            clock.pass(86_400)
        }
        try folder.write("one.table", users(3))
        _ = try synchronizer.run()
        try folder.write("one.table", users(1))
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
    }

    @Test(arguments: [0.0, 1.0]) func anEmptiedFileIsRefusedAtAnyMaxShrink(share: Double) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        var configuration = folder.configuration()
        configuration.maxShrink = share
        configuration.minimum = 0
        let synchronizer = try Synchronizer(configuration)
        _ = try synchronizer.run()
        try folder.write("one.table", "# nothing left\n")
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .guardRefused)
        #expect(error.report?.refusal?.violations.map(\.scope).contains("source one") == true)
        #expect(try folder.snapshot().info.recipients == 3)
        #expect(try synchronizer.run(acceptShrink: true).recipients == 0)
    }

    @Test func aListIsRefusedIfADomainLosesAllRecipients() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(1_000) + "only@example.org\n")
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        try folder.write("one.table", users(1_000))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.report?.refusal?.violations.map(\.scope) == ["domain example.org"])
        #expect(error.description.contains("domain example.org would lose its only recipient;") == false)
        #expect(error.description.contains("domain example.org would lose its only recipient"))
        #expect(error.description.contains("only@example.org"))
    }

    @Test func eachDomainIsJudgedByItself() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(1_000) + users(10, at: "example.org"))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        try folder.write("one.table", users(1_000) + users(8, at: "example.org"))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.report?.refusal?.violations.map(\.scope) == ["domain example.org"])
    }

    @Test func eachSourceIsJudgedByItself() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(1_000))
        try folder.write("two.table", users(10, from: 5_000))
        let synchronizer = try Synchronizer(folder.configuration(["one", "two"]))
        _ = try synchronizer.run()
        try folder.write("two.table", users(8, from: 5_000))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.report?.refusal?.violations.map(\.scope) == ["source two"])
        // What another source still lists is no loss, unless the source lists nothing at all.
        try folder.write("two.table", users(1, from: 5_000))
        try folder.write("one.table", users(1_000) + users(10, from: 5_000))
        #expect(try synchronizer.run().removed.count == 0)
        try folder.write("two.table", "")
        let emptied = try #require(syncError { try synchronizer.run() })
        #expect(emptied.report?.refusal?.violations.map(\.scope) == ["source two"])
        #expect(emptied.report?.refusal?.removed == 0)
    }

    @Test func removingASourceFromTheConfigurationCountsAsLoss() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(20))
        try folder.write("two.table", users(20, from: 100))
        _ = try Synchronizer(folder.configuration(["one", "two"])).run()
        let synchronizer = try Synchronizer(folder.configuration(["one"]))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.report?.refusal?.violations.map(\.scope) == ["all", "source two", "domain example.com"])
        #expect(error.description.contains("\"two\", no longer configured, would lose 20 of 20"))
        #expect(try folder.snapshot().lookup("u110@example.com") != nil)
        #expect(try synchronizer.run(acceptShrink: true).recipients == 20)
        #expect(try folder.snapshot().lookup("u110@example.com") == nil)
        #expect(try synchronizer.run().notes.isEmpty)
    }

    @Test func acceptShrinkDoesntOverruleMinimum() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(20))
        var configuration = folder.configuration()
        configuration.minimum = 10
        let synchronizer = try Synchronizer(configuration)
        _ = try synchronizer.run()
        try folder.write("one.table", users(9))
        for accept in [false, true] {
            let error = try #require(syncError { try synchronizer.run(acceptShrink: accept) })
            #expect(error.report?.refusal?.violations.map(\.rule).contains(.minimum) == true)
            #expect(error.report?.refusal?.acceptable == false)
            #expect(error.description.contains("9 recipients, fewer than minimum = 10"))
        }
        try folder.write("one.table", users(10))
        #expect(try synchronizer.run(acceptShrink: true).recipients == 10)
    }

    @Test func aCatchAllDomainDoesntCoverACanary() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", "@example.com\n" + users(20))
        var configuration = folder.configuration()
        configuration.canaries = ["CEO@Example.com", "u3@example.com"]
        let synchronizer = try Synchronizer(configuration)
        for accept in [false, true] {
            let error = try #require(syncError { try synchronizer.run(acceptShrink: accept) })
            #expect(error.report?.refusal?.violations.map(\.text) == ["the canary ceo@example.com is not listed"])
            #expect(error.description.contains("no index has been published yet"))
        }
        try folder.write("one.table", "@example.com\nceo@example.com\n" + users(20))
        #expect(try synchronizer.run().outcome == .published)
        // A canary that is new in the configuration is looked for at once, though no source has changed.
        configuration.canaries = ["zzz@example.com"]
        #expect(syncError { try Synchronizer(configuration).run() }?.kind == .guardRefused)
    }

    @Test func aLostStateDoesntBypassTheGuards() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(100))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] { unlink(folder(name)) }
        try folder.write("one.table", users(50))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .guardRefused)
        #expect(error.description.contains("50 of 100 recipients"))
        #expect(try folder.snapshot().lookup("u99@example.com") != nil)
        try folder.write("one.table", users(100, from: 5))
        #expect(try synchronizer.run().outcome == .published)
        #expect(try folder.snapshot().info.generation == 2, "generations go on from the snapshot's")
        try folder.write("one.table", users(10))
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
    }
}
