import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A sync thread stops in time, whatever its sources do. Its limits are far shorter than those of the sources.
@Suite struct SyncEndTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A source that hangs, as in a file system that doesn't answer, until it is let go.
    private final class HangingSource: RecipientSource {
        let configuration: SourceConfiguration
        let hangs = DispatchSemaphore(value: 0)
        let goOn = DispatchSemaphore(value: 0)
        let isBack = Atomic(false)
        /// Whether it hangs on the sync's thread, where relay domains are read, rather than on its own.
        let hangsEarly: Bool

        init(_ configuration: SourceConfiguration, hangsEarly: Bool) {
            self.configuration = configuration
            self.hangsEarly = hangsEarly
        }

        func relayDomains(_ request: ReadRequest) throws(SourceError) -> [RelayDomain]? {
            guard hangsEarly else { return nil }
            hangs.signal()
            goOn.wait()
            return nil
        }

        func read(
            _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
        ) throws(SourceError) -> SourceResult {
            if !hangsEarly {
                hangs.signal()
                goOn.wait()
            }
            entries.begin()
            let key = Array("old@example.com".utf8)
            key.withUnsafeBufferPointer {
                entries.add(key: $0, flags: [], object: .init(start: nil, count: 0))
            }
            isBack.store(true, ordering: .sequentiallyConsistent)
            return SourceResult(reading: .full, asOf: Date())
        }
    }

    @Test func aThreadThatDidntStopInTimePublishesNothing() throws {
        let configuration = folder.configuration()
        let source = HangingSource(configuration.sources[0], hangsEarly: true)
        let told = Mutex(0)
        let published = Mutex<[String]>([])
        let old = SyncThread(
            try Synchronizer(configuration, sources: [source]) { step throws(SyncError) in
                if step == .committed || step == .published { published.withLock { $0.append("old") } }
            }, onFileFailure: { _ in told.withLock { $0 += 1 } }, onSync: { _ in told.withLock { $0 += 1 } }
        ) { _ in told.withLock { $0 += 1 } }
        old.start()
        source.hangs.wait()
        #expect(!old.stop(within: .milliseconds(100)))

        // The next one, as after a reload, waits until the lock is free, and says why.
        try folder.write("one.table", users(3))
        let reasons = Mutex<[String]>([])
        let new = SyncThread(
            try Synchronizer(folder.configuration()), onFileFailure: { _ in },
            onSync: { run in
                if case .failure(let error) = run.result, error.kind == .locked {
                    reasons.withLock { $0.append(error.description) }
                }
            }
        ) { event in if case .synced = event { published.withLock { $0.append("new") } } }
        new.start()
        #expect(eventually { !reasons.withLock { $0.isEmpty } })
        #expect(
            reasons.withLock { $0.first?.hasPrefix("an earlier sync of this program (process \(getpid()))") }
                == true)
        #expect(published.withLock { $0 } == [])
        source.goOn.signal()
        #expect(eventually { published.withLock { !$0.isEmpty } })
        #expect(old.stop(within: .seconds(60)), "the thread has ended by itself")
        #expect(published.withLock { $0 } == ["new"])
        #expect(told.withLock { $0 } == 0)
        #expect(try folder.snapshot().lookup("old@example.com") == nil)
        #expect(try folder.snapshot().lookup("u0@example.com") != nil)
        #expect(new.stop(within: .seconds(60)))
    }

    @Test func aHangingSourceDelaysNeitherTheStopNorTheNextSync() throws {
        let configuration = folder.configuration()
        let source = HangingSource(configuration.sources[0], hangsEarly: false)
        let published = Mutex<[String]>([])
        let old = SyncThread(
            try Synchronizer(configuration, sources: [source]) { step throws(SyncError) in
                if step == .committed || step == .published { published.withLock { $0.append("old") } }
            }, onFileFailure: { _ in }
        ) { _ in }
        old.start()
        source.hangs.wait()
        #expect(old.stop(within: .seconds(60)))
        try folder.write("one.table", users(3))
        _ = try Synchronizer(folder.configuration()).run()
        source.goOn.signal()
        #expect(eventually { source.isBack.load(ordering: .sequentiallyConsistent) })
        #expect(published.withLock { $0 } == [])
        #expect(try folder.snapshot().lookup("old@example.com") == nil)
        #expect(try folder.snapshot().lookup("u0@example.com") != nil)
    }
}
