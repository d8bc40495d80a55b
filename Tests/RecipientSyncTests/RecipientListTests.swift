import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct RecipientListTests {
    @Test func `the list has each address once, with the flags that all its objects give together`() throws {
        let folder = try TemporaryFolder()
        let directory = ScriptedSource(
            SourceConfiguration(name: "ad", kind: .file(format: .list, path: folder("none"))))
        directory.set(1, .init(addresses: ["staff@example.com", "anna@example.com"], flags: .internalOnly))
        directory.set(2, .init(addresses: ["anna@example.com"]))
        directory.set(3, .init(addresses: ["gone@example.com"], flags: .disabled))
        var configuration = folder.configuration([])
        configuration.sources = [directory.configuration]
        var listed: [(String, RecipientFlags)] = []
        #expect(try !RecipientList.forEach(state: folder("state.sqlite")) { listed.append(($0, $1)) })
        _ = try Synchronizer(configuration, sources: [directory]) { _ throws(SyncError) in }.run()
        #expect(try RecipientList.forEach(state: folder("state.sqlite")) { listed.append(($0, $1)) })
        #expect(listed.map(\.0) == ["anna@example.com", "gone@example.com", "staff@example.com"])
        #expect(listed.map(\.1) == [[], .disabled, .internalOnly])
        #expect(throws: TestFailure.self) {
            _ = try RecipientList.forEach(state: folder("state.sqlite")) { _, _ in throw TestFailure("the reader ends")
            }
        }
    }
}
