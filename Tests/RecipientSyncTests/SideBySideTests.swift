import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// Sources are read side by side: a slow source delays no other, and has a deadline.
@Suite struct SideBySideTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A source that lists one more user at each pull, and waits for leave before it ends one.
    private final class SlowSource: RecipientSource {
        let configuration: SourceConfiguration
        private let mayEnd = Atomic(true)
        private let count = Atomic(0)

        init(_ configuration: SourceConfiguration) {
            self.configuration = configuration
        }

        var pulls: Int { count.load(ordering: .sequentiallyConsistent) }
        func hold(_ holds: Bool) { mayEnd.store(!holds, ordering: .sequentiallyConsistent) }

        func read(
            _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
        ) throws(SourceError) -> SourceResult {
            let number = count.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
            entries.begin()
            for user in 0..<number {
                let key = Array("slow\(user)@example.com".utf8)
                entries.countEntry()
                key.withUnsafeBufferPointer {
                    entries.add(key: $0, flags: [], object: .init(start: nil, count: 0))
                }
            }
            while !mayEnd.load(ordering: .sequentiallyConsistent) {
                try request.check()
                usleep(2_000)
            }
            return SourceResult(reading: .full, asOf: Date(), cursor: Data("\(number)".utf8))
        }
    }

    private func configuration(_ sources: Int) -> SyncConfiguration {
        var configuration = folder.configuration()
        configuration.sources = (0..<sources).map {
            SourceConfiguration(name: "s\($0)", kind: .file(format: .list, path: folder("s\($0)")))
        }
        return configuration
    }

    @Test func aSlowSourceDoesntDelayTheOthers() throws {
        var configuration = configuration(2)
        configuration.interval = .seconds(1)
        let slow = SlowSource(configuration.sources[0])
        let quick = ScriptedSource(configuration.sources[1])
        quick.set(1, .init(addresses: ["one@example.com"]))
        let synchronizer = try Synchronizer(configuration, sources: [slow, quick]) { _ throws(SyncError) in }
        _ = try synchronizer.run()
        slow.hold(true)
        quick.set(2, .init(addresses: ["two@example.com"]))
        let thread = SyncThread(synchronizer, onFileFailure: { _ in }) { _ in }
        thread.start()
        #expect(eventually { (try? folder.snapshot().lookup("two@example.com")) != nil })
        #expect(thread.outlook.running.map(\.name) == ["s0"])
        #expect(thread.outlook.running.first?.entries == 2)
        #expect(try folder.snapshot().lookup("slow1@example.com") == nil)
        // The others' changes still come, and the pull that is under way is the only one.
        quick.set(3, .init(addresses: ["three@example.com"]))
        #expect(eventually { (try? folder.snapshot().lookup("three@example.com")) != nil })
        #expect(slow.pulls == 2)
        slow.hold(false)
        #expect(eventually { (try? folder.snapshot().lookup("slow1@example.com")) != nil })
        #expect(thread.stop(within: .seconds(60)))
        #expect(thread.outlook.running == [])
    }

    @Test func aSourceThatExceedsTheDeadlineKeepsItsLastList() throws {
        var configuration = configuration(2)
        let slow = SlowSource(configuration.sources[0])
        let quick = ScriptedSource(configuration.sources[1])
        quick.set(1, .init(addresses: ["one@example.com"]))
        _ = try Synchronizer(configuration, sources: [slow, quick]) { _ throws(SyncError) in }.run()
        configuration.deadline = .milliseconds(200)
        slow.hold(true)
        quick.set(2, .init(addresses: ["two@example.com"]))
        let report = try Synchronizer(configuration, sources: [slow, quick]) { _ throws(SyncError) in }.run()
        #expect(report.failures.map(\.name) == ["s0"])
        let text = report.failures.first?.failure ?? ""
        #expect(
            text.contains("source \"s0\"") && text.contains("sync.deadline") && text.contains("2 entries"), "\(text)")
        #expect(try folder.snapshot().lookup("slow0@example.com") != nil)
        #expect(try folder.snapshot().lookup("slow1@example.com") == nil)
        #expect(try folder.snapshot().lookup("two@example.com") != nil)
    }

    @Test func aFirstListThatExceedsTheDeadlineIsAnError() throws {
        var configuration = configuration(1)
        configuration.deadline = .milliseconds(100)
        let slow = SlowSource(configuration.sources[0])
        slow.hold(true)
        let synchronizer = try Synchronizer(configuration, sources: [slow]) { _ throws(SyncError) in }
        let error = syncError { try synchronizer.run() }
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("sync.deadline") == true)
        slow.hold(false)
        #expect(eventually { (try? synchronizer.run())?.outcome == .published })
    }

    @Test func manySourcesAreMergedInOrder() throws {
        let configuration = configuration(40)
        let sources = configuration.sources.map { ScriptedSource($0) }
        for (number, source) in sources.enumerated() {
            for object in 0..<UInt8(50) {
                source.set(
                    object, .init(addresses: ["u\((number + Int(object) * 7) % 200)@example.com", "all@example.com"]))
            }
        }
        let synchronizer = try Synchronizer(configuration, sources: sources) { _ throws(SyncError) in }
        let report = try synchronizer.run()
        let wanted = Set(sources.flatMap { $0.objects.values.flatMap(\.addresses) })
        #expect(report.recipients == wanted.count)
        for address in wanted { #expect(try folder.snapshot().lookup(address) != nil) }
        #expect(try synchronizer.run().outcome == .unchanged)
    }
}
