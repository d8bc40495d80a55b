import Foundation
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// Alias domains of tables, from the line to the published snapshot, and aliases whose target no source lists.
@Suite struct AliasDomainTests {
    private static let relay: Set<String> = ["main.example", "one.example", "two.example", "three.example"]

    private func aliases(_ folder: TemporaryFolder) throws -> [String] {
        try folder.snapshot().info.sources.flatMap(\.aliasDomains).map { "\($0.name) \($0.target)" }
    }

    @Test func aPostfixTableDefinesAliasDomains() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            """
            anna@main.example x
            @one.example @Main.Example.
            @two.example @foreign.example
            @three.example @main.example, @two.example
            @main.example @main.example
            @foreign.example @main.example

            """)
        let synchronizer = try Synchronizer(folder.configuration(format: .postfix, relay: Self.relay))
        let report = try synchronizer.run()
        #expect(try aliases(folder) == ["one.example main.example"])
        #expect(report.sources[0].report.foreign.first == ["@foreign.example (line 6)"])
        let snapshot = try folder.snapshot()
        #expect(snapshot.lookup("@one.example") == .aliasDomain)
        #expect(snapshot.lookup("@two.example") == .catchAll)
        #expect(snapshot.lookup("@three.example") == .catchAll)
        #expect(snapshot.lookup("@main.example") == .catchAll)
        #expect(snapshot.info.recipients == 1)
        #expect(snapshot.info.catchAllDomains == 3)
    }

    @Test func aVirtusertableDefinesAliasDomains() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            "anna@main.example x\n@one.example %1@main.example\n@two.example %1%3@main.example\n@three.example joe@main.example\n"
        )
        _ = try Synchronizer(folder.configuration(format: .sendmail, relay: Self.relay)).run()
        #expect(try aliases(folder) == ["one.example main.example", "two.example main.example"])
    }

    /// The flags of the key stay the same, and yet the snapshot is another one.
    @Test func aChangedTargetOfAnAliasIsPublished() throws {
        let folder = try TemporaryFolder()
        let synchronizer = try Synchronizer(folder.configuration(format: .postfix, relay: Self.relay))
        try folder.write("one.table", "anna@main.example x\n@one.example @main.example\n")
        _ = try synchronizer.run()
        try folder.write("one.table", "anna@main.example x\n@one.example @two.example\n")
        // All of the domain's recipients would be others.
        let refused = try #require(syncError { try synchronizer.run() })
        #expect(refused.kind == .guardRefused)
        #expect(
            refused.description.contains(
                "relay domain one.example would have the recipients of two.example instead of those of main.example")
        )
        #expect(try aliases(folder) == ["one.example main.example"])
        _ = try synchronizer.run(acceptShrink: true)
        #expect(try aliases(folder) == ["one.example two.example"])
        try folder.write("one.table", "anna@main.example x\n@one.example anna@main.example\n")
        _ = try synchronizer.run()
        #expect(try aliases(folder) == [])
        #expect(try folder.snapshot().lookup("@one.example") == .catchAll)
        try folder.write("one.table", "anna@main.example x\n@one.example @main.example\n")
        // From a catch-all to an alias: its recipients are known now.
        _ = try synchronizer.run()
        #expect(try aliases(folder) == ["one.example main.example"])
    }

    @Test func circularAliasesAreReportedAndIgnored() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            "anna@main.example x\n@one.example @two.example\n@two.example @one.example\n@three.example @one.example\n")
        let report = try Synchronizer(folder.configuration(format: .postfix, relay: Self.relay)).run()
        #expect(try aliases(folder) == ["three.example one.example"])
        #expect(
            report.notes.contains { $0.contains("one.example, two.example") && $0.contains("aliases of each other") })
        #expect(try folder.snapshot().lookup("@one.example") == nil)
    }

    @Test func theReportNamesTargetsThatNoSourceLists() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            """
            info@one.example anna@main.example, nobody@main.example
            sales@one.example
              bob+sales@main.example
            far@one.example someone@foreign.example
            all@one.example anyone@two.example
            @two.example x
            root@one.example root

            """)
        try folder.write("two.table", "anna@main.example x\nbob@main.example x\n")
        let synchronizer = try Synchronizer(folder.configuration(["one", "two"], format: .postfix, relay: Self.relay))
        let expected = UnlistedTargets(count: 1, first: ["info@one.example (line 1): nobody@main.example"])
        for _ in 0..<2 {
            let report = try synchronizer.run(dryRun: true)
            #expect(report.sources.map(\.report.unlistedTargets) == [expected, nil])
        }
        #expect(try synchronizer.run().sources[0].report.unlistedTargets == expected)
        #expect(try synchronizer.run(dryRun: true).sources[0].report.unlistedTargets == expected)
        // Listed by another source meanwhile, though the table has stayed as it was.
        try folder.write("two.table", "anna@main.example x\nbob@main.example x\nnobody@main.example x\n")
        #expect(try synchronizer.run(dryRun: true).sources[0].report.unlistedTargets == nil)
    }

    /// What the configuration accepts without a list isn't missing there.
    @Test func targetsOfCatchAllDomainsNeedntBeListed() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            "a@one.example postmaster@main.example\nb@one.example x@two.example\nc@one.example x@three.example\n")
        var configuration = folder.configuration(format: .postfix, relay: Self.relay)
        configuration.alwaysAccepted = ["postmaster"]
        configuration.domainsWithoutList = ["two.example"]
        let report = try Synchronizer(configuration).run(dryRun: true)
        #expect(report.sources[0].report.unlistedTargets?.first == ["c@one.example (line 3): x@three.example"])
    }

    @Test func theReportNamesUnlistedTargetsOfAVirtusertable() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table",
            """
            info@one.example nobody@main.example
            old+*@one.example new+%2@main.example
            joe@one.example error:nouser 550 ask nobody@main.example
            kim@one.example info@one.example
            lee@one.example kim

            """)
        let report = try Synchronizer(folder.configuration(format: .sendmail, relay: Self.relay)).run(dryRun: true)
        #expect(report.sources[0].report.unlistedTargets?.first == ["info@one.example (line 1): nobody@main.example"])
    }

    @Test func theReportKeepsTheFirstTwentyUnlistedTargets() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", (0..<50).map { "u\($0)@one.example n\($0)@main.example\n" }.joined())
        let report = try Synchronizer(folder.configuration(format: .postfix, relay: Self.relay)).run(dryRun: true)
        #expect(report.sources[0].report.unlistedTargets?.count == 50)
        #expect(report.sources[0].report.unlistedTargets?.first.count == 20)
    }

    /// A refused recipient is refused though its domain is a catch-all, and listed if another source lists it.
    @Test func aVirtusertableErrorRejectsARecipientOfACatchAllDomain() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "one.table", "joe@one.example error:nouser 550 gone\nkim@one.example error:nouser\n@one.example x\n")
        try folder.write("two.table", "kim@one.example x\n")
        let synchronizer = try Synchronizer(folder.configuration(["one", "two"], format: .sendmail, relay: Self.relay))
        _ = try synchronizer.run()
        let snapshot = try folder.snapshot()
        #expect(snapshot.lookup("joe@one.example") == .disabled)
        #expect(snapshot.lookup("kim@one.example") == [])
        #expect(snapshot.lookup("@one.example") == .catchAll)
    }
}
