import Foundation
import GRDB
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A damaged state is moved aside and made anew, and the guards hold; other programs' files stay as they are.
@Suite struct DamagedStateTests {
    /// A way to damage a file.
    enum Damage: String, CaseIterable {
        case zeroed, garbage, header, truncated, stub, pages

        func apply(to data: inout Data) {
            switch self {
            case .zeroed: data = Data(count: data.count)
            case .garbage: data = Data(repeating: 0xa5, count: data.count)
            case .header: data.replaceSubrange(0..<16, with: Data(repeating: 0x20, count: 16))
            case .truncated: data = data.prefix(data.count / 2)
            case .stub: data = data.prefix(60)
            // SQLite finds this damage only while the list is compared.
            case .pages: data.replaceSubrange(40_960..., with: Data(repeating: 0xff, count: data.count - 40_960))
            }
        }
    }

    /// A folder with a list of two thousand recipients, published, and a state that is damaged.
    private func folder(_ damage: Damage) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(2_000))
        _ = try Synchronizer(folder.configuration()).run()
        var data = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        damage.apply(to: &data)
        try folder.write("state.sqlite", data)
        return folder
    }

    private func damaged(_ folder: TemporaryFolder) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.contains(".damaged-") }.sorted()
    }

    @Test(arguments: Damage.allCases) func aDamagedStateIsMovedAsideAndANewOneIsMade(_ damage: Damage) throws {
        let folder = try folder(damage)
        let before = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        try folder.write("one.table", users(2_001))
        let report = try Synchronizer(folder.configuration()).run()
        #expect(report.outcome == .published)
        #expect(report.generation == 2)
        #expect(try folder.snapshot().lookup("u2000@example.com") != nil)
        let names = try damaged(folder).filter { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }
        let name = try #require(names.first)
        #expect(names.count == 1)
        #expect(name.wholeMatch(of: /state\.sqlite\.damaged-\d{8}T\d{6}Z/) != nil, "\(name)")
        // A file that looks sound at first is opened for writing, which changes its header.
        if damage != .pages {
            #expect(try Data(contentsOf: URL(fileURLWithPath: folder(name))) == before)
        }
        #expect(report.notes.first?.hasPrefix("the sync state \(folder("state.sqlite")) is damaged: ") == true)
        #expect(report.notes.first?.contains("moved to \(folder(name))") == true, "\(report.notes)")
        #expect(try Synchronizer(folder.configuration()).run().outcome == .unchanged)
        #expect(try damaged(folder).filter { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") } == names)
    }

    @Test(arguments: [Damage.garbage, .pages]) func theGuardsHoldAfterAStateWasDamaged(_ damage: Damage) throws {
        let folder = try folder(damage)
        let index = try Data(contentsOf: URL(fileURLWithPath: folder("recipients.index")))
        func refused(_ rule: Refusal.Rule, _ configuration: SyncConfiguration) throws {
            let error = syncError { try Synchronizer(configuration).run() }
            #expect(error?.kind == .guardRefused, "\(error?.description ?? "published")")
            #expect(error?.report?.refusal?.violations.contains { $0.rule == rule } == true)
            #expect(try Data(contentsOf: URL(fileURLWithPath: folder("recipients.index"))) == index)
        }
        try folder.write("one.table", users(1_000))
        try refused(.maxShrink, folder.configuration())
        // The new state goes on with it.
        try refused(.maxShrink, folder.configuration())
        #expect(SyncStatus(state: folder("state.sqlite"))?.refusal != nil)
        try folder.write("one.table", users(2_000))
        var configuration = folder.configuration()
        configuration.canaries = ["ceo@example.com"]
        try refused(.canaries, configuration)
        configuration = folder.configuration()
        configuration.minimum = 2_001
        try refused(.minimum, configuration)
        #expect(try Synchronizer(folder.configuration()).run().recipients == 2_000)
    }

    @Test func aDryRunLeavesADamagedStateInPlace() throws {
        let folder = try folder(.pages)
        let before = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        let report = try Synchronizer(folder.configuration()).run(dryRun: true)
        #expect(report.outcome == .dryRun)
        #expect(report.notes.first?.contains("is damaged") == true, "\(report.notes)")
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite"))) == before)
        #expect(try damaged(folder) == [])
    }

    @Test func anEmptyFileBecomesAState() throws {
        let folder = try folder(.pages)
        try folder.write("state.sqlite", Data())
        #expect(try Synchronizer(folder.configuration()).run().recipients == 2_000)
        #expect(try damaged(folder) == [])
    }

    @Test func aFileThatNoSyncMadeIsLeftAlone() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let text = Data(String(repeating: "root:x:0:0\n", count: 100).utf8)
        try folder.write("state.sqlite", text)
        // The second time as the first: nothing is left beside it that would make it look like ours.
        for _ in 0..<2 {
            let error = syncError { try Synchronizer(folder.configuration()).run() }
            #expect(error?.kind == .state)
            #expect(error?.description.contains("left alone") == true, "\(error?.description ?? "")")
            #expect(error?.advice?.contains("sync.state") == true)
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite"))) == text)
        #expect(try damaged(folder) == [])
    }

    @Test func aTextFileAtThePathOfTheStateIsLeftAlone() throws {
        let folder = try folder(.pages)
        for text in [users(100), "Füße\n", "# \u{1f4ee} list\r\n\tanna@example.com"] {
            try folder.write("state.sqlite", text)
            let error = syncError { try Synchronizer(folder.configuration()).run() }
            #expect(error?.description.contains("left alone") == true, "\(text): \(error?.description ?? "")")
            #expect(try String(contentsOfFile: folder("state.sqlite"), encoding: .utf8) == text)
        }
    }

    @Test(arguments: ["newer", "other"]) func aDamagedStateOfANewerVersionIsLeftAlone(_ kind: String) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(2_000))
        _ = try Synchronizer(folder.configuration()).run()
        let queue = try DatabaseQueue(path: folder("state.sqlite"))
        try queue.writeWithoutTransaction {
            try $0.execute(sql: kind == "newer" ? "PRAGMA user_version = 99" : "PRAGMA application_id = 77")
        }
        try queue.close()
        var data = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        if kind == "newer" { Damage.truncated.apply(to: &data) }
        try folder.write("state.sqlite", data)
        let error = syncError { try Synchronizer(folder.configuration()).run() }
        #expect(error?.kind == .state)
        #expect(error?.description.contains("left alone") == true, "\(error?.description ?? "")")
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite"))) == data)
        #expect(try damaged(folder) == [])
    }

    @Test func aDamagedStateIsMovedWithItsLogAndReplacesNoOtherFile() throws {
        let folder = try TemporaryFolder()
        let time = Date(timeIntervalSince1970: 1_764_500_000)
        for number in 0..<6 {
            for suffix in ["", "-wal", "-shm"] { try folder.write("s" + suffix, "\(number)\(suffix)") }
            let place = try SyncState.moveAside(folder("s"), at: time)
            #expect((place == nil) == (number >= 4))
            #expect(access(folder("s"), F_OK) != 0)
        }
        let names = ["", ".1", ".2", ".3"].map { "s.damaged-20251130T105320Z" + $0 }
        #expect(try damaged(folder) == names.flatMap { [$0, $0 + "-shm", $0 + "-wal"] }.sorted())
        for (number, name) in names.enumerated() {
            #expect(try String(contentsOfFile: folder(name + "-wal"), encoding: .utf8) == "\(number)-wal")
        }
    }

    @Test func anUnreadableIndexDoesntLetAnyListPass() throws {
        let folder = try folder(.garbage)
        // As where its file system doesn't answer: it is there, but not to be read.
        unlink(folder("recipients.index"))
        try #require(mkdir(folder("recipients.index"), 0o700) == 0)
        try folder.write("one.table", users(10))
        let error = syncError { try Synchronizer(folder.configuration()).run() }
        #expect(error?.kind == .state, "\(error?.description ?? "published")")
    }
}
