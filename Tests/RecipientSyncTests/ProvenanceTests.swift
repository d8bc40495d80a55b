import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct ProvenanceTests {
    @Test func checkFindsEverySourceOfARecipientAndItsLine() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", "# comment\na@example.com\nb@example.com\n@example.org\n")
        try folder.write("two.table", "B@Example.com\n")
        _ = try Synchronizer(folder.configuration(["one", "two"])).run()
        let state = folder("state.sqlite")
        #expect(
            Provenance.all(of: "b@example.com", state: state).map { "\($0.source) \($0.type) \($0.origin ?? "")" } == [
                "one file line 3 of \(folder("one.table"))", "two file line 1 of \(folder("two.table"))",
            ])
        let catchAll = Provenance.all(of: "@example.org", state: state)
        #expect(catchAll.map(\.origin) == ["line 4 of \(folder("one.table"))"])
        #expect(catchAll.map { $0.flags.rawValue } == [4])
        #expect(Provenance.all(of: "c@example.com", state: state).isEmpty)
        try folder.write("one.table", "a@example.com\n")
        #expect(Provenance.all(of: "b@example.com", state: state)[0].origin?.contains("changed since") == true)
    }

    @Test func checkFindsNoSourceWithoutAState() throws {
        let folder = try TemporaryFolder()
        #expect(Provenance.all(of: "a@example.com", state: folder("none")).isEmpty)
        try folder.write("state", "no database")
        #expect(Provenance.all(of: "a@example.com", state: folder("state")).isEmpty)
        try folder.write("empty", "")
        #expect(Provenance.all(of: "a@example.com", state: folder("empty")).isEmpty)
    }

    @Test func checkFindsSourcesWhileASyncWrites() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", "a@example.com\n")
        _ = try Synchronizer(folder.configuration()).run()
        try folder.write("one.table", "a@example.com\nb@example.com\n")
        let synchronizer = try Synchronizer(folder.configuration()) { step throws(SyncError) in
            guard step == .judged else { return }
            #expect(Provenance.all(of: "a@example.com", state: folder("state.sqlite")).count == 1)
            #expect(Provenance.all(of: "b@example.com", state: folder("state.sqlite")).isEmpty)
            #expect(SyncStatus(state: folder("state.sqlite"))?.recipients == 1)
        }
        #expect(try synchronizer.run().recipients == 2)
        #expect(Provenance.all(of: "b@example.com", state: folder("state.sqlite")).count == 1)
    }
}
