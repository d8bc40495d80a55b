import Foundation
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct ThreadNameTests {
        /// The names of the threads of a process, as `ps -L -o comm` shows them.
        private func threads(of process: Int32) throws -> Set<String> {
            let folder = "/proc/\(process)/task"
            let threads = try FileManager.default.contentsOfDirectory(atPath: folder)
            // A thread may have ended meanwhile.
            return Set(
                threads.compactMap { try? procFile("\(folder)/\($0)/comm") }
                    .map { $0.trimmingCharacters(in: .newlines) })
        }

        @Test func `each thread of the filter is named after its work`() throws {
            let filter = try LoneFilter()
            let expected: Set = ["postern", "milter", "worker", "log", "index", "messages", "reload", "offenders"]
            let isComplete = eventually(within: 30) {
                (try? threads(of: filter.postern.pid).isSuperset(of: expected)) ?? false
            }
            let names = try threads(of: filter.postern.pid).sorted()
            #expect(isComplete, "\(names)")
        }
    }
}
