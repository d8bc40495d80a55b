import Foundation
import GRDB
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

/// Reading only changes gives the same list, counts and snapshot as reading everything.
@Suite struct ChangesTests {
    private let folder: TemporaryFolder
    private let sources: [ScriptedSource]
    private let configuration: SyncConfiguration

    init() throws {
        folder = try TemporaryFolder()
        var configuration = folder.configuration(["one", "two"])
        configuration.maxShrink = 1
        configuration.minimum = 0
        self.configuration = configuration
        sources = configuration.sources.map { ScriptedSource($0) }
    }

    private func synchronizer(
        _ adjust: (inout SyncConfiguration) -> Void = { _ in }
    ) throws -> Synchronizer {
        var configuration = configuration
        adjust(&configuration)
        return try Synchronizer(configuration, sources: sources) { _ throws(SyncError) in }
    }

    /// The list as the sources have it: each address with the flags that all its entries share.
    private func model() -> [String: RecipientFlags] {
        var list: [String: RecipientFlags] = [:]
        for object in sources.flatMap({ $0.objects.values }) {
            for address in object.addresses {
                guard !address.hasSuffix("@foreign.example") else { continue }
                list[address] = list[address]?.merged(with: object.flags) ?? object.flags
            }
        }
        return list
    }

    /// Everything that follows from the list must follow from this one.
    private func verify(_ report: SyncReport, _ before: [String: RecipientFlags], _ after: [String: RecipientFlags])
        throws
    {
        let changed = after.filter { key, flags in before[key].map { $0 != flags } ?? false }
        try #require(report.added.addresses == after.keys.filter { before[$0] == nil }.sorted(by: inOrder))
        try #require(report.removed.addresses == before.keys.filter { after[$0] == nil }.sorted(by: inOrder))
        try #require(report.changed.addresses == changed.keys.sorted(by: inOrder))
        try #require(report.recipients == after.count)
        let snapshot = try folder.snapshot()
        try #require(snapshot.info.entries == after.count)
        for (key, flags) in after { try #require(snapshot.lookup(key) == flags, "\(key)") }
        for key in before.keys where after[key] == nil { try #require(snapshot.lookup(key) == nil, "\(key)") }
        let state = try #require(try SyncState(reading: folder("state.sqlite")))
        let (domains, recipients) = try state.transaction(.deferred) { database in
            ((try SyncState.domains(database), try SyncState.sources(database).map(\.recipients)), .commit)
        }
        try #require(
            domains
                == Dictionary(grouping: after.keys) { $0.split(separator: "@").last.map(String.init) ?? "" }
                .mapValues(\.count))
        for (source, count) in zip(sources, recipients) {
            let own = Set(source.objects.values.flatMap(\.addresses).filter { !$0.hasSuffix("@foreign.example") })
            try #require(count == own.count)
        }
    }

    private func inOrder(_ first: String, _ second: String) -> Bool {
        Array(first.utf8).lexicographicallyPrecedes(Array(second.utf8))
    }

    @Test func readingChangesGivesTheSameListAsReadingEverything() throws {
        var random = SeededGenerator.announced("changes of two sources")
        var before: [String: RecipientFlags] = [:]
        let synchronizer = try synchronizer()
        for round in 0..<150 {
            for source in sources where Bool.random(using: &random) || round == 0 {
                source.pulls(by: ScriptedSource.Way.allCases.randomElement(using: &random) ?? .changes)
                for _ in 0..<Int.random(in: 0...4, using: &random) {
                    source.set(UInt8.random(in: 0..<20, using: &random), object(&random))
                }
            }
            let after = model()
            let report = try synchronizer.run(SyncOptions(acceptsShrink: true))
            try verify(report, before, after)
            before = after
        }
        let ways = Set(sources.flatMap(\.pulls))
        #expect(ways == [.full, .changes, .unchanged])
    }

    private func object(_ random: inout SeededGenerator) -> ScriptedSource.Object? {
        guard Int.random(in: 0..<4, using: &random) > 0 else { return nil }
        let domains = ["example.com", "example.org", "foreign.example"]
        let addresses = (0..<Int.random(in: 0...4, using: &random)).map { _ in
            "u\(Int.random(in: 0..<25, using: &random))@\(domains.randomElement(using: &random) ?? "")"
        }
        return ScriptedSource.Object(
            addresses: Set(addresses), flags: RecipientFlags(rawValue: UInt8.random(in: 0...3, using: &random)))
    }

    @Test func `max_shrink applies to the whole list, also if only changes were read`() throws {
        for number in 0..<10 {
            sources[0].set(UInt8(number), .init(addresses: Set((0..<10).map { "a\(number)-\($0)@example.com" })))
        }
        sources[1].set(0, .init(addresses: ["only@example.org"]))
        let synchronizer = try synchronizer { $0.maxShrink = 0.1 }
        _ = try synchronizer.run()
        sources[0].set(3, nil)
        #expect(try synchronizer.run().removed.count == 10, "ten of 101 and of 100 are within the limit")
        sources[0].set(4, nil)
        sources[0].set(5, .init(addresses: ["a5-0@example.com"]))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.report?.refusal?.violations.map(\.scope) == ["all", "source one", "domain example.com"])
        let text = "would lose 29 of 101 recipients (28.7 %; max_shrink allows 10 %, here 10; 19 now and 10 before"
        #expect(error.description.contains(text))
        #expect(error.description.contains("source \"one\" would lose 29 of 100 recipients"))
        // The source reports refused changes again until they are accepted.
        #expect(syncError { try synchronizer.run() }?.kind == .guardRefused)
        #expect(try synchronizer.run(acceptShrink: true).removed.count == 19)
        sources[1].set(0, nil)
        let emptied = try #require(syncError { try synchronizer.run() })
        #expect(
            emptied.report?.refusal?.violations.map(\.scope)
                == ["all", "source two", "domain example.org"].filter { $0 != "all" })
    }

    @Test func theCanariesAreLookedForAtEveryChange() throws {
        sources[0].set(1, .init(addresses: ["ceo@example.com"]))
        sources[0].set(2, .init(addresses: Set((0..<50).map { "a\($0)@example.com" })))
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        let synchronizer = try synchronizer { $0.canaries = ["ceo@example.com"] }
        _ = try synchronizer.run()
        sources[0].set(2, .init(addresses: Set((0..<49).map { "a\($0)@example.com" })))
        #expect(try synchronizer.run().removed.count == 1)
        #expect(sources[0].pulls.last == .changes)
        sources[0].set(1, .init(addresses: ["boss@example.com"]))
        #expect(syncError { try synchronizer.run() }?.report?.refusal?.violations.map(\.rule) == [.canaries])
    }

    @Test func aSmallChangeEditsTheSnapshotWithoutReadingTheWholeList() throws {
        sources[0].set(1, .init(addresses: Set((0..<200).map { "a\($0)@example.com" })))
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        // The same salt tells an edited snapshot from one that was made anew.
        let salt = try folder.snapshot().salt
        sources[1].set(2, .init(addresses: ["c@example.com"]))
        #expect(try synchronizer.run().added.addresses == ["c@example.com"])
        #expect(try folder.snapshot().salt == salt)
        sources[1].pulls(by: .full)
        sources[1].set(3, .init(addresses: ["d@example.com"]))
        _ = try synchronizer.run()
        #expect(try folder.snapshot().salt != salt)
    }

    @Test func aStateOfVersion1IsMigrated() throws {
        sources[0].set(1, .init(addresses: ["a@example.com", "b@example.org"]))
        sources[1].set(1, .init(addresses: ["c@example.com"]))
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        let queue = try DatabaseQueue(path: folder("state.sqlite"))
        try queue.write { database in
            try database.execute(
                sql: """
                    DROP TABLE domain; ALTER TABLE source DROP COLUMN domains;
                    DROP TABLE loss; DROP TABLE refused; DROP TABLE clock; DROP TABLE relay_table;
                    ALTER TABLE decision DROP COLUMN leaving; ALTER TABLE decision DROP COLUMN alias_domains;
                    PRAGMA user_version = 1
                    """)
        }
        try queue.close()
        #expect(try synchronizer.run(dryRun: true).outcome == .dryRun)
        #expect(SyncStatus(state: folder("state.sqlite"))?.recipients == 3)
        // A change right away: nothing is counted yet.
        sources[0].set(2, .init(addresses: ["d@example.com"]))
        #expect(try synchronizer.run().added.addresses == ["d@example.com"])
        sources[0].set(2, .init(addresses: ["e@example.com"]))
        let report = try synchronizer.run()
        #expect(report.added.addresses == ["e@example.com"])
        #expect(report.removed.addresses == ["d@example.com"])
        try verify(
            report, ["d@example.com": [], "a@example.com": [], "b@example.org": [], "c@example.com": []], model())
    }

    @Test func relayDomainsThatOneSourceNamesApplyToAllSources() throws {
        sources[0].set(1, .init(addresses: ["a@example.com", "a@new.example"]))
        sources[1].set(1, .init(addresses: ["b@new.example"]))
        sources[0].names([])
        let synchronizer = try synchronizer { $0.maxShrink = 0.1 }
        #expect(try synchronizer.run().added.addresses == ["a@example.com"])
        // A new domain brings in what was left out for it, from every source.
        sources[0].names([.init(name: "new.example", takesAll: true)])
        #expect(try synchronizer.run().added.addresses == ["a@new.example", "b@new.example"])
        #expect(try folder.snapshot().info.sources[0].relayDomains == [.init(name: "new.example", takesAll: true)])
        // The guards judge a domain that the source no longer names as lost.
        sources[0].names([])
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.description.contains("domain new.example would lose all of its 2 recipients"))
        #expect(try folder.snapshot().lookup("b@new.example") != nil)
        #expect(try synchronizer.run(acceptShrink: true).removed.addresses == ["a@new.example", "b@new.example"])
        #expect(try folder.snapshot().info.sources[0].relayDomains == [])
    }

    @Test func theGuardsJudgeTheLossOfARelayDomainWithoutRecipients() throws {
        sources[0].set(1, .init(addresses: ["a@example.com"]))
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        sources[0].names([.init(name: "relay.example", takesAll: true)])
        let synchronizer = try synchronizer { $0.maxShrink = 0.1 }
        _ = try synchronizer.run()
        for domains in [[], [RelayDomain(name: "relay.example", takesAll: false)]] {
            sources[0].names(domains)
            let error = try #require(syncError { try synchronizer.run() })
            #expect(error.report?.refusal?.violations.map(\.scope) == ["relay domain relay.example"])
            #expect(
                try folder.snapshot().info.sources[0].relayDomains == [.init(name: "relay.example", takesAll: true)])
        }
        _ = try synchronizer.run(acceptShrink: true)
        #expect(try folder.snapshot().info.sources[0].relayDomains == [.init(name: "relay.example", takesAll: false)])
        // A domain that another source names, too, stays a relay domain.
        sources[1].names([.init(name: "relay.example", takesAll: false)])
        _ = try synchronizer.run()
        sources[0].names([])
        _ = try synchronizer.run()
        #expect(try folder.snapshot().info.sources.map(\.relayDomains.count) == [0, 1])
    }

    @Test func recipientsThatBecomeRestrictedCountAsLost() throws {
        for number in 0..<20 { sources[0].set(UInt8(number), .init(addresses: ["a\(number)@example.com"])) }
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        let synchronizer = try synchronizer { $0.maxShrink = 0.1 }
        _ = try synchronizer.run()
        for number in 0..<2 {
            sources[0].set(UInt8(number), .init(addresses: ["a\(number)@example.com"], flags: .internalOnly))
        }
        #expect(try synchronizer.run().changed.count == 2)
        for number in 2..<20 {
            sources[0].set(UInt8(number), .init(addresses: ["a\(number)@example.com"], flags: .internalOnly))
        }
        let error = try #require(syncError { try synchronizer.run() })
        let text = "in the list, 20 of 21 recipients (95.2 %; max_shrink allows 10 %, here 2; 18 now and 2 before"
        #expect(error.description.contains(text))
        #expect(try folder.snapshot().lookup("a5@example.com") == [])
        #expect(try synchronizer.run(acceptShrink: true).changed.count == 18)
        // To be open again is no loss.
        for number in 0..<20 { sources[0].set(UInt8(number), .init(addresses: ["a\(number)@example.com"])) }
        #expect(try synchronizer.run().changed.count == 20)
    }

    @Test func aSyncOfOtherSourcesDoesntEndARefusal() throws {
        sources[0].set(1, .init(addresses: Set((0..<20).map { "a\($0)@example.com" })))
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        let synchronizer = try synchronizer { $0.maxShrink = 0.1 }
        func news(_ place: Int) throws -> SyncReport {
            try synchronizer.run(SyncOptions(due: [place]))
        }
        var history = SyncFailureHistory()
        _ = try synchronizer.run()
        sources[0].set(1, .init(addresses: ["a0@example.com"]))
        let error = try #require(syncError { try news(0) })
        #expect(history.events(after: .failure(error)).count == 1)
        sources[1].set(2, .init(addresses: ["c@example.com"]))
        let other = try news(1)
        #expect(other.outcome == .published && other.refusalStands)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal != nil)
        for event in history.events(after: .success(other)) {
            if case .recovered = event { Issue.record("a sync of another source is told as the end of the refusal") }
        }
        #expect(try news(1).refusalStands, "the other source has not changed")
        sources[0].set(1, .init(addresses: Set((0..<20).map { "a\($0)@example.com" })))
        #expect(try !news(0).refusalStands)
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal == nil)
    }

    @Test func onlySourcesThatAreDueAreRead() throws {
        sources[0].set(1, .init(addresses: ["a@example.com"]))
        sources[1].set(1, .init(addresses: ["b@example.com"]))
        let synchronizer = try synchronizer()
        _ = try synchronizer.run()
        sources[0].set(2, .init(addresses: ["c@example.com"]))
        sources[1].set(2, .init(addresses: ["d@example.com"]))
        let report = try synchronizer.run(SyncOptions(due: [1]))
        #expect(report.added.addresses == ["d@example.com"])
        #expect(sources[0].pulls == [.full])
        #expect(try synchronizer.run().added.addresses == ["c@example.com"])
    }
}
