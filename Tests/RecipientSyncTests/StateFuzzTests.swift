import Foundation
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct StateFuzzTests {
    /// Whatever is damaged in the sync's state, a sync is made or refused, and what reads beside it gets an answer.
    @Test func randomDamageOfAStateIsFoundOrRepaired() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(200))
        let configuration = folder.configuration()
        _ = try Synchronizer(configuration).run()
        let state = configuration.statePath
        let sample = [UInt8](try Data(contentsOf: URL(fileURLWithPath: state)))
        var refused = 0
        try Effort.forEachInput("state", 100, samples: [sample], keepsLength: true) { input in
            for side in ["-wal", "-shm", "-journal"] { try? FileManager.default.removeItem(atPath: state + side) }
            try Data(input).write(to: URL(fileURLWithPath: state))
            _ = SyncStatus(state: state)
            _ = Provenance.all(of: "u7@example.com", state: state)
            if syncError({ try Synchronizer(configuration).run() }) != nil { refused += 1 }
            // Whatever came of it, a sound snapshot is in force.
            _ = try folder.snapshot()
        }
        // Some damage must have been met: it is refused, or the state is moved aside and made anew.
        let copies = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
            $0.contains(".damaged-")
        }
        #expect(refused + copies.count > 3, "\(refused), \(copies)")
    }
}
