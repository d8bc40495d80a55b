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

    @Test func `says why a thread can't be started`() {
        // No address space has so much room.
        let thread = NamedThread("too large", stackSize: 1 << 46) { Issue.record("it runs") }
        #expect(thread.failure == EAGAIN)
        #expect(thread.waitForEnd())
    }
}
