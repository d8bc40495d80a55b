import System

/// Runs the body on a number of threads, and waits for all. A blocking test needs these, as there are few cooperative
/// threads.
package func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let threads = (0..<count).map { index in NamedThread.start("test") { body(index) } }
    precondition(threads.allSatisfy { $0.failure == nil }, "a thread of the test could not be started")
    for thread in threads { thread.waitForEnd() }
}

/// Why a test can't go on.
package struct TestFailure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
