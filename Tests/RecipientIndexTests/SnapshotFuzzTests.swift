import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct SnapshotFuzzTests {
    private let keys = (0..<100).map { "user\($0)@example.com" } + ["@example.org", "nobody@example.com"]

    /// A changed snapshot is refused; one whose checksums were made right again is refused or searched, and never read beyond.
    @Test func anyBytesAreRefusedOrSearched() throws {
        let folder = try TemporaryFolder()
        let sample = try SnapshotBytes.hundred().bytes
        var opened = 0
        try Effort.forEachInput("snapshot", 1_000, samples: [sample]) { input in
            if input != sample { #expect(try SnapshotBytes(input).opened(in: folder).error != nil) }
            guard input.count >= 4096 else { return }
            var sealed = SnapshotBytes(input)
            sealed.seal()
            guard case .success(let snapshot) = try sealed.opened(in: folder) else { return }
            opened += 1
            for key in keys { _ = snapshot.lookup(key) }
        }
        #expect(opened > 20, "\(opened)")
    }
}
