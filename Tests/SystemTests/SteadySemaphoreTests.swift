import Foundation
import Synchronization
import System
import Testing

@Suite struct SteadySemaphoreTests {
    @Test func `counts signals`() {
        let semaphore = SteadySemaphore()
        #expect(!semaphore.wait(within: .zero))
        semaphore.signal()
        semaphore.signal()
        #expect(semaphore.wait(within: .zero))
        semaphore.wait()
        #expect(!semaphore.wait(within: .milliseconds(5)))
        #expect(!semaphore.wait(within: .seconds(-1)))
    }

    @Test func `no signal is lost between threads`() {
        let semaphore = SteadySemaphore()
        let taken = Atomic<Int>(0)
        let done = SteadySemaphore()
        for _ in 0..<4 {
            NamedThread.start("waiting") {
                while semaphore.wait(within: .seconds(60)), taken.add(1, ordering: .relaxed).newValue < 4_000 {}
                semaphore.signal()
                done.signal()
            }
        }
        for _ in 0..<4_000 { semaphore.signal() }
        for _ in 0..<4 { #expect(done.wait(within: .seconds(60))) }
        #expect(taken.load(ordering: .relaxed) >= 4_000)
    }

    /// The semaphores of Dispatch wait until a time of the wall clock.
    @Test
    func `no wait depends on the wall clock`() throws {
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Sources")
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        var offenders: [String] = []
        for case let file as URL in files where file.pathExtension == "swift" {
            let text = try String(contentsOf: file, encoding: .utf8)
            if text.contains("wait(timeout:") || text.contains("DispatchSemaphore(") {
                offenders.append(file.lastPathComponent)
            }
        }
        #expect(offenders.filter { $0 != "SteadySemaphore.swift" } == [])
    }
}
