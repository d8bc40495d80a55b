import RecipientIndex
import Synchronization

/// How often a new index file was taken over, or could not be.
final class IndexTally: Sendable {
    private let taken = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)

    var loads: Int { taken.load(ordering: .relaxed) }
    var failures: Int { failed.load(ordering: .relaxed) }

    func take(_ event: IndexWatcher.Event) {
        switch event {
        case .loaded: taken.add(1, ordering: .relaxed)
        case .failed: failed.add(1, ordering: .relaxed)
        }
    }
}
