import Foundation
import Glibc
import Synchronization
import System
import TestSupport
import Testing

@Suite struct NamedThreadTests {
    @Test func `the kernel shows the thread's name`() throws {
        let name = Mutex("")
        let done = SteadySemaphore()
        let end = SteadySemaphore()
        let thread = NamedThread("fifteen letters") {
            name.withLock { $0 = (try? procFile("/proc/thread-self/comm")) ?? "" }
            done.signal()
            end.wait()
        }
        #expect(thread.failure == nil && thread.name == "fifteen letters")
        done.wait()
        #expect(name.withLock { $0 } == "fifteen letters\n")
        #expect(!thread.waitForEnd(within: .milliseconds(10)))
        end.signal()
        #expect(thread.waitForEnd(within: .seconds(10)))
        #expect(thread.waitForEnd(), "once more")
    }

    @Test func `a thread that can't be started has a failure`() {
        // No address space has room for this stack.
        let thread = NamedThread("too large", stackSize: 1 << 46) { Issue.record("it runs") }
        #expect(thread.failure == EAGAIN)
        #expect(thread.waitForEnd())
    }
}

@Suite struct SteadySemaphoreTests {
    @Test func `a semaphore counts its signals`() {
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
        #expect(offenders == [])
    }
}
