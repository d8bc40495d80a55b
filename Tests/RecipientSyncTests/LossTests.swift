import Foundation
import GRDB
import SyncTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

/// Clocks that a test sets.
final class TestClock: Sendable {
    private let reading = Mutex(SyncClock.Reading(wall: 1_800_000_000_000, steady: 1_000_000, boot: "first"))

    var clock: SyncClock { SyncClock { [self] in reading.withLock { $0 } } }

    /// Time passes.
    func pass(_ seconds: Double) {
        leap(seconds)
        reading.withLock { $0.steady += Int64(seconds * 1_000) }
    }

    /// Somebody sets the clock on the wall.
    func leap(_ seconds: Double) { reading.withLock { $0.wall += Int64(seconds * 1_000) } }

    /// The machine is off for a while and starts again.
    func restart(after seconds: Double) {
        reading.withLock {
            $0.wall += Int64(seconds * 1_000)
            $0.steady = 5_000
            $0.boot += "'"
        }
    }
}

@Suite struct SyncClockTests {
    private func reading(_ wall: Int64, _ steady: Int64, _ boot: String) -> SyncClock.Reading {
        SyncClock.Reading(wall: wall, steady: steady, boot: boot)
    }

    @Test func theSyncsTimeFollowsTheSteadyClock() {
        let last = (time: Int64(100), reading: reading(5_000, 50, "a"))
        #expect(SyncClock.time(reading(9_000_000, 80, "a"), after: last) == 130, "the clock was set ahead")
        #expect(SyncClock.time(reading(-9_000, 80, "a"), after: last) == 130, "the clock was set back")
        #expect(SyncClock.time(reading(7_000, 1, "b"), after: last) == 2_100, "the machine was started again")
        #expect(
            SyncClock.time(reading(1, 1, "b"), after: last) == 100,
            "the machine was started again with its clock in the past")
        #expect(SyncClock.time(reading(.max, 1, "b"), after: last) == 100 + SyncClock.mostBetweenBoots)
        #expect(SyncClock.time(reading(.min, 1, "b"), after: last) == 100)
        #expect(SyncClock.time(reading(6_000, 80, ""), after: (100, reading(5_000, 50, ""))) == 1_100)
        #expect(SyncClock.time(reading(5_000, 20, "a"), after: last) == 100, "the steady clock went back")
    }

    @Test func theSyncsClockAdvances() {
        let first = SyncClock.machine.read()
        let second = SyncClock.machine.read()
        #expect(first.wall > 1_600_000_000_000 && second.steady >= first.steady && first.boot == second.boot)
    }
}

/// Losses within the window of the guard, and the grace of recipients that have gone.
@Suite struct LossTests {
    private let folder: TemporaryFolder
    private let clock = TestClock()
    private let directory: ScriptedSource

    init() throws {
        folder = try TemporaryFolder()
        directory = ScriptedSource(
            SourceConfiguration(name: "ad", kind: .file(format: .list, path: folder("none"))))
    }

    private func synchronizer(
        grace: Double = 600, _ change: (inout SyncConfiguration) -> Void = { _ in }
    ) throws -> Synchronizer {
        var configuration = folder.configuration([])
        configuration.sources = [directory.configuration]
        configuration.grace = .seconds(grace)
        change(&configuration)
        return try Synchronizer(configuration, sources: [directory], clock: clock.clock) { _ throws(SyncError) in }
    }

    private func add(_ numbers: Range<Int>) {
        for number in numbers { directory.set(UInt8(number), .init(addresses: ["u\(number)@example.com"])) }
    }

    private func flags(_ number: Int) throws -> RecipientFlags? {
        try folder.snapshot().lookup("u\(number)@example.com")
    }

    // MARK: The window

    @Test func aDirectoryThatIsEmptiedEntryByEntryLosesTenPercentOnly() throws {
        add(0..<200)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        var refusals: Set<String> = []
        for number in 0..<200 {
            directory.set(UInt8(number), nil)
            if let error = syncError({ try synchronizer.run(thread: true) }) {
                #expect(error.kind == .guardRefused)
                refusals.insert(error.description)
            }
            clock.pass(1)
        }
        clock.pass(3_600)
        _ = syncError { try synchronizer.run(thread: true) }
        let info = try folder.snapshot().info
        #expect(info.recipients == 180)
        #expect(refusals.count == 1, "the refusal is reported once: \(refusals)")
        #expect(refusals.first?.contains("would lose 21 of 200 recipients") == true)
        let refusal = try #require(SyncStatus(state: folder("state.sqlite"))?.refusal)
        #expect(refusal.removed == 1 && refusal.waiting == 180)
    }

    @Test func lossesDontCountAfterTheWindow() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for day in 0..<3 {
            for number in day * 10..<day * 10 + 8 { directory.set(UInt8(number), nil) }
            #expect(try synchronizer.run().removed.count == 8)
            clock.pass(86_400)
        }
        #expect(try synchronizer.run().recipients == 76)
    }

    @Test func recipientsThatComeBackDontCountAsLost() throws {
        add(0..<100)
        let synchronizer = try synchronizer(grace: 0)
        _ = try synchronizer.run()
        for _ in 0..<5 {
            for number in 0..<10 { directory.set(UInt8(number), nil) }
            #expect(try synchronizer.run().removed.count == 10)
            add(0..<10)
            #expect(try synchronizer.run().added.count == 10)
        }
    }

    @Test func restrictionsCountWithinTheWindow() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<10 {
            directory.set(UInt8(number), .init(addresses: ["u\(number)@example.com"], flags: .disabled))
            _ = try synchronizer.run()
        }
        directory.set(10, .init(addresses: ["u10@example.com"], flags: .internalOnly))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.description.contains("in the list, 11 of 100 recipients"))
        #expect(try flags(10) == [])
        add(0..<5)
        #expect(try synchronizer.run().changed.count == 6, "five are unrestricted again, so one more may be restricted")
    }

    @Test(arguments: [86_399.0, 30 * 86_400.0, -30 * 86_400.0]) func aClockThatLeapsForgetsNoLosses(leap: Double) throws
    {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<10 { directory.set(UInt8(number), nil) }
        _ = try synchronizer.run()
        clock.leap(leap)
        directory.set(10, nil)
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        #expect(try flags(0) == .leaving, "the leap doesn't end the grace")
        clock.restart(after: 5 * 86_400)
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        clock.pass(86_400)
        #expect(try synchronizer.run().removed.addresses == ["u10@example.com"])
    }

    // MARK: Accepting

    @Test func onlyLossesThatWereShownAreAccepted() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<20 { directory.set(UInt8(number), nil) }
        let shown = try #require(syncError { try synchronizer.run() }?.report?.refusal)
        #expect(shown.removed == 20)
        for number in 20..<60 { directory.set(UInt8(number), nil) }
        // The thread meets more of it meanwhile, and goes on showing the same.
        let again = try #require(syncError { try synchronizer.run(thread: true) })
        #expect(again.description.contains("20 would be removed"))
        let error = try #require(syncError { try synchronizer.run(acceptShrink: true) })
        #expect(error.kind == .guardRefused)
        #expect(
            error.description.hasPrefix(
                "Postern published the list that was shown; it checks recipients lost since then separately"))
        #expect(error.description.contains("40 would be removed"))
        #expect(try folder.snapshot().info.recipients == 80)
        #expect(try flags(5) == .leaving)
        #expect(try flags(25) == [])
        #expect(try flags(75) == [])
        // Now these have been shown.
        #expect(try synchronizer.run(acceptShrink: true).recipients == 40)
        // And nothing of it counts any more.
        for number in 60..<64 { directory.set(UInt8(number), nil) }
        #expect(try synchronizer.run().recipients == 36)
    }

    @Test func laterLossesWithinTheAllowancePass() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<20 { directory.set(UInt8(number), nil) }
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        directory.set(20, nil)
        directory.set(200, .init(addresses: ["new@example.com"]))
        let report = try synchronizer.run(acceptShrink: true)
        #expect(report.removed.count == 21 && report.added.count == 1 && report.recipients == 80)
        #expect(try flags(20) == .leaving)
    }

    @Test func aRestrictionThatWasNotShownIsNotAccepted() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<20 { directory.set(UInt8(number), nil) }
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        for number in 20..<60 {
            directory.set(UInt8(number), .init(addresses: ["u\(number)@example.com"], flags: .disabled))
        }
        let error = try #require(syncError { try synchronizer.run(acceptShrink: true) })
        #expect(error.report?.refusal?.restricted == 40)
        #expect(try flags(30) == [] && flags(3) == .leaving)
    }

    @Test func aRefusalThatHasEndedCantBeAccepted() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        for number in 0..<20 { directory.set(UInt8(number), nil) }
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        add(0..<20)
        #expect(try synchronizer.run().recipients == 100)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal == nil)
    }

    // MARK: Grace

    @Test func aRecipientThatGoesIsDeferredBeforeItIsRejected() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        let salt = try {
            _ = try synchronizer.run(); return try folder.snapshot().salt
        }()
        directory.set(7, nil)
        let gone = try synchronizer.run()
        #expect(gone.removed.addresses == ["u7@example.com"] && gone.leaving == 1 && gone.nextLeaves == 600)
        #expect(try flags(7) == .leaving)
        #expect(try folder.snapshot().salt == salt, "the snapshot is the last one, edited")
        #expect(try folder.snapshot().info.recipients == 99 && folder.snapshot().info.leaving == 1)
        clock.pass(599)
        #expect(try synchronizer.run().leaving == 1)
        clock.pass(1)
        let left = try synchronizer.run()
        #expect(left.left == 1 && left.leaving == 0 && left.outcome == .published && left.nextLeaves == nil)
        #expect(try flags(7) == nil && folder.snapshot().info.leaving == 0)
        #expect(try synchronizer.run().outcome == .unchanged)
    }

    @Test func aRecipientThatComesBackWithinTheGraceIsntRejected() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        directory.set(7, nil)
        _ = try synchronizer.run()
        clock.pass(500)
        add(7..<8)
        let report = try synchronizer.run()
        #expect(report.returned.addresses == ["u7@example.com"] && report.added.count == 0 && report.leaving == 0)
        #expect(try flags(7) == [])
        clock.pass(86_400)
        #expect(try synchronizer.run().left == 0)
        #expect(try flags(7) == [])
    }

    @Test func aLeavingRecipientKeepsItsFlags() throws {
        directory.set(1, .init(addresses: ["u1@example.com"], flags: .internalOnly))
        directory.set(2, .init(addresses: ["@example.org"], flags: .catchAll))
        add(3..<30)
        let synchronizer = try synchronizer { $0.maxShrink = 1 }
        _ = try synchronizer.run()
        directory.set(1, nil)
        _ = try synchronizer.run()
        #expect(try flags(1) == [.internalOnly, .leaving])
        directory.set(2, nil)
        _ = try synchronizer.run(acceptShrink: true)
        #expect(try folder.snapshot().lookup("@example.org") == [.catchAll, .leaving])
        #expect(
            try folder.snapshot().info.catchAllDomains == 1,
            "filters look for catch-all domains only if the count says so")
    }

    @Test func aSnapshotMadeFromTheStateHasTheLeavingRecipients() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        directory.set(7, nil)
        _ = try synchronizer.run()
        try FileManager.default.removeItem(atPath: folder("recipients.index"))
        #expect(try synchronizer.run().leaving == 1)
        #expect(try flags(7) == .leaving)
        // After a full reading, the snapshot is made from the state.
        directory.pulls(by: .full)
        add(100..<101)
        #expect(try synchronizer.run().leaving == 1)
        #expect(try flags(7) == .leaving)
        clock.pass(600)
        #expect(try synchronizer.run().left == 1)
        #expect(try flags(7) == nil)
    }

    @Test func withoutGraceARecipientThatGoesIsRejectedAtOnce() throws {
        add(0..<100)
        _ = try synchronizer().run()
        directory.set(7, nil)
        _ = try synchronizer().run()
        #expect(try flags(7) == .leaving)
        directory.set(8, nil)
        _ = try synchronizer(grace: 0).run()
        #expect(try flags(7) == nil && flags(8) == nil)
    }

    @Test func aRefusalDoesntProlongTheGrace() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        directory.set(7, nil)
        _ = try synchronizer.run()
        for number in 20..<60 { directory.set(UInt8(number), nil) }
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        clock.pass(600)
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        #expect(try flags(7) == nil && flags(30) == [])
    }

    @Test func aDryRunShowsLossesAndWritesNothing() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        directory.set(7, nil)
        let report = try synchronizer.run(dryRun: true)
        #expect(report.removed.count == 1)
        #expect(try flags(7) == [])
        #expect(SyncStatus(state: folder("state.sqlite"))?.recipients == 100)
    }

    // MARK: States that aren't sound

    /// Deletes rows of the state as damage would.
    private func loseRows() throws {
        let state = try SyncState(path: folder("state.sqlite"))
        try state.transaction(.immediate) { database in
            try database.execute(
                sql: "DELETE FROM entry WHERE address IN (SELECT address FROM entry ORDER BY address LIMIT 33)")
            return ((), .commit)
        }
    }

    @Test(arguments: [true, false]) func aStateThatHasLostRowsIsRepaired(indexIsThere: Bool) throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        try loseRows()
        if !indexIsThere { try FileManager.default.removeItem(atPath: folder("recipients.index")) }
        directory.pulls(by: .full)
        add(100..<101)
        let report = try synchronizer.run()
        #expect(report.recipients == 101)
        #expect(report.notes.contains { $0.contains("lists 67 addresses where it should list 100") })
        #expect(try folder.snapshot().info.recipients == 101)
        #expect(try synchronizer.run().outcome == .unchanged)
    }

    @Test func lostRowsDontBypassTheGuards() throws {
        add(0..<100)
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        try loseRows()
        try FileManager.default.removeItem(atPath: folder("recipients.index"))
        for number in 0..<50 { directory.set(UInt8(number), nil) }
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .guardRefused)
        #expect(error.description.contains("the list would have 50 recipients instead of 100"))
    }

    // MARK: Relay domains of tables

    @Test func aTruncatedTableOfRelayDomainsIsRefused() throws {
        let path = "/etc/postfix/relay_domains"
        func synchronizer(_ names: [String]) throws -> Synchronizer {
            try self.synchronizer {
                $0.relayTables = [path: names]
                $0.relayDomains = Set(["example.com"] + names)
            }
        }
        add(0..<10)
        directory.set(20, .init(addresses: ["a@one.example", "b@two.example"]))
        _ = try synchronizer(["one.example", "two.example"]).run()
        let error = try #require(syncError { try synchronizer(["one.example"]).run() })
        #expect(error.kind == .guardRefused)
        #expect(error.description.contains("relay domain two.example, which \(path) listed, would no longer"))
        let info = try folder.snapshot().info
        #expect(
            info.sources.last?.relayDomains.map(\.name) == ["one.example", "two.example"],
            "a filter goes on relaying for both")
        #expect(try folder.snapshot().lookup("b@two.example") == [])
        // A domain that the configuration names itself stays a relay domain.
        _ = try self.synchronizer {
            $0.relayTables = [path: ["one.example"]]
            $0.relayDomains = ["example.com", "one.example", "two.example"]
        }.run()
        #expect(try folder.snapshot().lookup("b@two.example") == [])
        // A table that is no longer named is no loss of its domains.
        _ = try self.synchronizer { $0.relayDomains = ["example.com", "one.example", "two.example"] }.run()
        #expect(try folder.snapshot().info.sources.count == 1)
    }

    @Test func aTruncatedTableOfRelayDomainsCanBeAccepted() throws {
        func synchronizer(_ names: [String]) throws -> Synchronizer {
            try self.synchronizer {
                $0.relayTables = ["t": names]
                $0.relayDomains = Set(["example.com"] + names)
            }
        }
        add(0..<10)
        _ = try synchronizer(["one.example", "two.example", "three.example"]).run()
        #expect(syncError { try synchronizer(["one.example", "two.example"]).run() }?.kind == .guardRefused)
        // More goes before it is accepted: that was not shown.
        #expect(syncError { try synchronizer(["one.example"]).run(acceptShrink: true) }?.kind == .guardRefused)
        _ = try synchronizer(["one.example"]).run(acceptShrink: true)
        #expect(try folder.snapshot().info.sources.last?.relayDomains.map(\.name) == ["one.example"])
    }

    // MARK: A first list

    @Test func aFirstListWithManyFaultyEntriesMustBeAccepted() throws {
        let guards = Guards(maxShrink: 0.1, minimum: 0, canaries: [])
        var source = SourceState(name: "ad", type: "file")
        source.report.read = 100
        source.report.skipped.malformed = 10
        #expect(guards.violations(ofFirstLists: [source]) { _ in true }.isEmpty)
        source.report.skipped.malformed = 11
        let found = guards.violations(ofFirstLists: [source]) { _ in true }
        #expect(found.map(\.rule) == [.faulty] && found[0].isAcceptable)
        #expect(found[0].text.contains("11 of the 100 entries (11 %)"))
        #expect(guards.violations(ofFirstLists: [source]) { _ in false }.isEmpty)
    }
}

extension Synchronizer {
    /// - Parameter thread: as the thread runs it, which meets the same again and again.
    func run(thread: Bool) throws -> SyncReport {
        try run(SyncOptions(isThread: thread))
    }
}

/// Neither a configuration nor a damaged state bypasses the guards.
@Suite struct GuardDetourTests {
    private let folder: TemporaryFolder
    private let clock = TestClock()

    init() throws { folder = try TemporaryFolder() }

    private func synchronizer(
        _ names: [String], _ change: (inout SyncConfiguration) -> Void = { _ in }
    ) throws -> Synchronizer {
        var configuration = folder.configuration(names)
        configuration.grace = .seconds(600)
        change(&configuration)
        return try Synchronizer(configuration, clock: clock.clock) { _ throws(SyncError) in }
    }

    @Test func lossesThatWereNotShownKeepARemovedSourceInTheState() throws {
        try folder.write("one.table", users(100))
        try folder.write("two.table", users(20, from: 500))
        _ = try synchronizer(["one", "two"]).run()
        try folder.write("one.table", users(70))
        #expect(syncError { try synchronizer(["one", "two"]).run() }?.kind == .guardRefused)
        // Another source is removed before a person accepts the losses: its own losses were not shown.
        let error = try #require(syncError { try synchronizer(["one"]).run(acceptShrink: true) })
        #expect(error.kind == .guardRefused && error.description.contains("no longer configured"))
        #expect(try folder.snapshot().info.recipients == 90)
        #expect(syncError { try synchronizer(["one"]).run() }?.kind == .guardRefused)
        #expect(try synchronizer(["one"]).run(acceptShrink: true).recipients == 70)
        #expect(try folder.snapshot().info.recipients == 70)
        #expect(try synchronizer(["one"]).run().outcome == .unchanged)
    }

    @Test func entriesOfUnknownSourcesAreDeleted() throws {
        try folder.write("one.table", users(100))
        try folder.write("two.table", users(20, from: 500))
        _ = try synchronizer(["one", "two"]).run()
        let state = try SyncState(path: folder("state.sqlite"))
        try state.transaction(.immediate) { database in
            try database.execute(sql: "DELETE FROM source WHERE name = 'two'")
            return ((), .commit)
        }
        try folder.write("one.table", users(99))
        let report = try synchronizer(["one", "two"]).run()
        #expect(report.recipients == 119)
        #expect(report.notes.contains { $0.contains("it has lost or gained some") })
        try folder.write("two.table", users(19, from: 500))
        #expect(try synchronizer(["one", "two"]).run().recipients == 118)
        #expect(try folder.snapshot().lookup("u519@example.com") == .leaving)
    }

    @Test func aRecipientThatComesBackRestrictedCountsAsLost() throws {
        let directory = ScriptedSource(
            SourceConfiguration(name: "ad", kind: .file(format: .list, path: folder("none"))))
        for number in 0..<100 { directory.set(UInt8(number), .init(addresses: ["u\(number)@example.com"])) }
        var configuration = folder.configuration([])
        configuration.sources = [directory.configuration]
        let synchronizer = try Synchronizer(configuration, sources: [directory], clock: clock.clock) {
            _ throws(SyncError) in
        }
        _ = try synchronizer.run()
        var refused = 0
        for start in stride(from: 0, to: 100, by: 5) {
            for number in start..<start + 5 { directory.set(UInt8(number), nil) }
            if syncError({ try synchronizer.run() }) != nil { refused += 1 }
            for number in start..<start + 5 {
                directory.set(UInt8(number), .init(addresses: ["u\(number)@example.com"], flags: .disabled))
            }
            if syncError({ try synchronizer.run() }) != nil { refused += 1 }
        }
        #expect(refused > 30)
        let snapshot = try folder.snapshot()
        #expect((0..<100).filter { snapshot.lookup("u\($0)@example.com") == [] }.count >= 85)
    }

    @Test func domainsOfATableThatIsNoLongerConfiguredAreNotRelayed() throws {
        func synchronizer(_ tables: [String: [String]]) throws -> Synchronizer {
            try self.synchronizer(["one"]) {
                $0.relayTables = tables
                $0.relayDomains = Set(["example.com"] + tables.values.joined())
            }
        }
        try folder.write("one.table", users(50) + "a@one.example\nb@two.example\n")
        _ = try synchronizer(["a": ["one.example"], "b": ["two.example"]]).run()
        #expect(try synchronizer(["a": ["one.example"]]).run().recipients == 51)
        // A subdomain of a relay domain stays a relay domain.
        let parent = try self.synchronizer(["one"]) {
            $0.relayTables = ["a": ["example.com", "sub.example.com"]]
            $0.relayDomains = ["example.com", "sub.example.com", "one.example"]
            $0.subdomains = true
        }
        _ = try parent.run()
        _ = try self.synchronizer(["one"]) {
            $0.relayTables = ["a": ["example.com"]]
            $0.relayDomains = ["example.com", "one.example"]
            $0.subdomains = true
        }.run()
    }

    @Test func aNewStateReadsTheRelayTablesFromTheIndex() throws {
        func synchronizer(_ names: [String]) throws -> Synchronizer {
            try self.synchronizer(["one"]) {
                $0.relayTables = ["t": names]
                $0.relayDomains = Set(["example.com"] + names)
            }
        }
        try folder.write("one.table", users(50))
        _ = try synchronizer(["one.example", "two.example"]).run()
        for name in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: folder("state.sqlite") + name) }
        let error = try #require(syncError { try synchronizer(["one.example"]).run() })
        #expect(error.description.contains("relay domain two.example"))
    }

    @Test func aDryRunFailsIfAnotherSyncPublishesMeanwhile() throws {
        try folder.write("one.table", users(50))
        _ = try synchronizer(["one"]).run()
        let other = try synchronizer(["one"])
        let path = folder("one.table")
        let dry = try Synchronizer(folder.configuration(["one"]), clock: clock.clock) { step throws(SyncError) in
            guard step == .read else { return }
            try? users(51).write(toFile: path, atomically: true, encoding: .utf8)
            _ = try other.run()
        }
        try folder.write("one.table", users(50) + "# touched\n")
        let error = try #require(syncError { try dry.run(dryRun: true) })
        #expect(error.kind == .locked)
    }
}
