import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import System
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A table is never read while somebody writes to it.
@Suite struct TableWatchTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func put(_ text: String, _ descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in _ = Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
    }

    @Test func leasesAndInotifyReportAWriter() throws {
        let path = try folder.write("table", "a\n")
        let watch = TableWatch(path)
        #expect(watch.reported == .unknown)
        #expect(!watch.isBeingWritten)
        let reader = open(path, O_RDONLY)
        defer { close(reader) }
        let writer = open(path, O_WRONLY | O_TRUNC)
        #expect(TableWatch.lease(reader) == .inProgress)
        #expect(watch.reported == .inProgress)
        #expect(watch.isBeingWritten)
        put("b\n", writer)
        #expect(watch.reported == .inProgress)
        #expect(!watch.hasCome())
        close(writer)
        #expect(watch.reported == .closed)
        #expect(TableWatch.lease(reader) == .closed)
        #expect(watch.hasCome())
        #expect(!watch.hasCome(), "it is reported once")
        #expect(!watch.isBeingWritten)
        try folder.write("table", "c\n")
        #expect(watch.reported == .renamed)
        #expect(watch.hasCome())
        // A change of another file in the folder isn't reported.
        try folder.write("other", "c\n")
        #expect(!watch.hasCome())
    }

    @Test func aWriterBehindALinkIsSeen() throws {
        try FileManager.default.createDirectory(atPath: folder("far"), withIntermediateDirectories: true)
        try folder.write("far/table", "a\n")
        try FileManager.default.createSymbolicLink(atPath: folder("table"), withDestinationPath: "far/table")
        let watch = TableWatch(folder("table"))
        let writer = open(folder("far/table"), O_WRONLY | O_APPEND)
        put("b\n", writer)
        #expect(watch.reported == .inProgress)
        close(writer)
        #expect(watch.reported == .closed)
        // The link leads to another file from now on.
        try folder.write("far/next", "a\n")
        try FileManager.default.createSymbolicLink(atPath: folder("new"), withDestinationPath: "far/next")
        rename(folder("new"), folder("table"))
        #expect(watch.hasCome())
        let other = open(folder("far/next"), O_WRONLY | O_APPEND)
        put("b\n", other)
        #expect(watch.reported == .inProgress)
        close(other)
    }

    /// How long a file must stay unchanged, by what is known about writers and by whether it has become shorter.
    @Test(
        arguments: [
            (.closed, false, 0, nil), (.closed, true, 0, "shorter"), (.closed, true, 3, nil), (.renamed, true, 0, nil),
            (.unknown, false, 0, "just changed"), (.unknown, false, 3, nil), (.unknown, true, 3, "shorter"),
            (.unknown, true, 11, nil), (.inProgress, false, 1_000, "being written"),
        ] as [(TableWatch.Writing, Bool, Double, String?)])
    func aTableIsReadOnceItHasSettled(_ writing: TableWatch.Writing, _ isShorter: Bool, _ age: Double, _ words: String?)
        throws
    {
        try folder.write("table", "a@example.com\n")
        let stamp = try #require(FileStamp(path: folder("table")))
        var previous = stamp
        previous.size += isShorter ? 1 : -1
        for offset in [0.0, 1_000_000] {
            // The file's own time shows its age; if that is in the future, the time since it was first seen does.
            var rest = FileSettling()
            let written = Date(timeIntervalSince1970: Double(stamp.modified) / 1e9)
            let instant = ContinuousClock.now
            if offset > 0 {
                _ = rest.reason(toWaitFor: stamp, previous, writing, now: written - offset, instant: instant)
            }
            let reason = rest.reason(
                toWaitFor: stamp, previous, writing, now: written + age - offset, instant: instant + .seconds(age))
            #expect((reason == nil) == (words == nil), "\(reason ?? "")")
            if let words { #expect(reason?.contains(words) == true, "\(reason ?? "")") }
        }
    }

    /// A list that is rewritten in place by a writer who pauses before the end.
    @Test func aListIsNotReadWhileItsWriterPauses() throws {
        try folder.write("one.table", users(1_000))
        var configuration = folder.configuration()
        configuration.interval = .seconds(1)
        let failures = Mutex<[String]>([])
        let synchronizer = try Synchronizer(
            configuration,
            sources: [
                FileSource(
                    configuration.sources[0], format: .list, path: folder("one.table"), patience: .milliseconds(300))
            ]
        ) { _ throws(SyncError) in }
        let thread = SyncThread(synchronizer, onFileFailure: { _ in }) { event in
            if case .failed(let error) = event { failures.withLock { $0.append(error.description) } }
        }
        thread.start()
        #expect(eventually { (try? folder.snapshot().info.entries) == 1_000 })
        let writer = open(folder("one.table"), O_WRONLY | O_TRUNC)
        put(users(950), writer)
        // Long enough for several syncs; each reports why it doesn't read the list.
        #expect(eventually { failures.withLock { $0.contains { $0.contains("is being written") } } })
        #expect(try folder.snapshot().info.entries == 1_000)
        put(users(51, from: 950), writer)
        #expect(try folder.snapshot().info.entries == 1_000)
        close(writer)
        #expect(eventually { (try? folder.snapshot().lookup("u1000@example.com")) != nil })
        #expect(try folder.snapshot().info.entries == 1_001)
        #expect(thread.stop(within: .seconds(60)))
    }

    /// A failure stays reported while syncs read other sources only.
    @Test func aTableThatIsBeingWrittenStaysReportedUntilItIsRead() throws {
        try folder.write("one.table", users(10))
        try folder.write("two.table", users(10, from: 50))
        let configuration = folder.configuration(["one", "two"])
        let sources = configuration.sources.map { source in
            FileSource(source, format: .list, path: folder("\(source.name).table"), patience: .milliseconds(200))
        }
        let synchronizer = try Synchronizer(configuration, sources: sources) { _ throws(SyncError) in }
        func run(_ due: Set<Int>?) throws -> SyncReport {
            try synchronizer.run(SyncOptions(due: due, isThread: true))
        }
        _ = try run(nil)
        let writer = open(folder("one.table"), O_WRONLY | O_APPEND)
        put(users(1, from: 10), writer)
        #expect(try run([0]).failures.map(\.name) == ["one"])
        #expect(try run([]).failures.map(\.name) == ["one"])
        #expect(try run([1]).failures.map(\.name) == ["one"])
        #expect(SyncStatus(state: folder("state.sqlite"))?.failures["one"]?.text.contains("is being written") == true)
        close(writer)
        #expect(try run([0]).failures.isEmpty)
        #expect(try folder.snapshot().info.recipients == 21)
    }

    /// If the first list of a source is being written, no older list can stay in use.
    @Test func aFirstListThatIsBeingWrittenIsAnError() throws {
        try folder.write("one.table", users(3))
        let writer = open(folder("one.table"), O_WRONLY | O_APPEND)
        let configuration = folder.configuration()
        let source = FileSource(
            configuration.sources[0], format: .list, path: folder("one.table"), patience: .milliseconds(100))
        let synchronizer = try Synchronizer(configuration, sources: [source]) { _ throws(SyncError) in }
        let error = syncError { try synchronizer.run() }
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("one.table is being written") == true)
        close(writer)
        #expect(try synchronizer.run().recipients == 3)
    }

    @Test func aDomainTableThatIsBeingWrittenIsNotRead() throws {
        let path = try folder.write("domains", "example.com\nexample.org\n")
        let writer = open(path, O_WRONLY | O_APPEND)
        let error = sourceError { try parseDomainTable(path: path) }
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("is being written") == true)
        close(writer)
        #expect(try parseDomainTable(path: path) == ["example.com", "example.org"])
    }

    @Test func aFileThatChangesWhileItIsReadIsReadAgain() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let source = FileSource(folder.configuration().sources[0], format: .list, path: folder("one.table"))
        let relay = DomainSet(["example.com"], subdomains: false)
        let entries = SourceEntries(
            folder: folder.path,
            domains: DomainFilter(relay: relay, folder.configuration().sources[0], subdomains: false))
        var report = SourceReport()
        var calls = 0
        let request = ReadRequest { () throws(SourceError) in
            calls += 1
            // The second call is for the first chunk, after the file was opened.
            if calls == 2 { _ = try? folder.write("one.table", users(7, from: 100)) }
        }
        let result = try source.read(request, into: entries, report: &report)
        #expect(result.reading == .full)
        #expect(report.read == 7)
        let sorted = try JoinedEntries([(0, entries)]).sorted()
        var keys: Set<String> = []
        while let entry = try sorted.next() {
            keys.insert(String(decoding: entry.key, as: UTF8.self))
        }
        #expect(keys == Set((100..<107).map { "u\($0)@example.com" }))
        let error = sourceError {
            var number = 0
            let restless = ReadRequest { () throws(SourceError) in
                number += 1
                _ = try? folder.write("one.table", users(number))
            }
            return try source.read(restless, into: entries, report: &report)
        }
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("changed while it was read, five times") == true)
    }
}
