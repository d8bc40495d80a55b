import Foundation
import Glibc
import Synchronization
import System

/// What an ``IndexWatcher`` knows of its file, and how it looks at it.
final class IndexPoller: Sendable {
    private let path: String
    private let target: HotSwap<IndexSnapshot>
    private let report: @Sendable (IndexWatcher.Event) -> Void
    private let progress = Mutex(Progress())

    private struct Progress {
        /// The state that is done with: in force, or reported.
        var settled: Sighting?
        /// A state that couldn't be used at the last look.
        var suspect: Sighting?
        var isLoaded = false
        /// Whether the settled state is a sound snapshot that is refused for its generation.
        var isOlder = false
        /// How many looks until a settled fault is tried again, which may have nothing to do with the file: no descriptor
        /// left, no permission. Nil for a fault of the file.
        var retryIn: Int?
    }

    /// What stat(2) says.
    private enum Sighting: Equatable {
        case file(FileStamp)
        case missing
        case hidden(Int32)
    }

    init(path: String, target: HotSwap<IndexSnapshot>, report: @escaping @Sendable (IndexWatcher.Event) -> Void) {
        self.path = path
        self.target = target
        self.report = report
    }

    /// Looks at the file once and returns whether a snapshot is in force.
    ///
    /// - Parameters:
    ///   - atOnce: to report a file that can't be used at the first look.
    ///   - acceptsOlder: whether a snapshot of an older generation than the one in use is taken, too.
    @discardableResult
    func look(atOnce: Bool, acceptsOlder: Bool = false) -> Bool {
        // The lock is only ever between the thread and `loadNow`; readers take none.
        let (event, isLoaded) = progress.withLock { progress in
            (step(&progress, atOnce: atOnce, acceptsOlder: acceptsOlder), progress.isLoaded)
        }
        if let event { report(event) }
        return isLoaded
    }

    private func step(_ progress: inout Progress, atOnce: Bool, acceptsOlder: Bool) -> IndexWatcher.Event? {
        let sighting = sight()
        let isRetry = progress.settled == sighting && !(acceptsOlder && progress.isOlder)
        if isRetry {
            guard let left = progress.retryIn else { return nil }
            progress.retryIn = left - 1
            guard left <= 0 else { return nil }
        }
        if sighting == .missing && !progress.isLoaded {
            progress.settled = .missing
            return nil
        }
        do throws(IndexError) {
            let snapshot = try IndexSnapshot(path: path)
            if !acceptsOlder, let inUse = target.current?.info, snapshot.info.generation < inUse.generation,
                // Who removes index and state begins to count anew; an old copy is of an earlier date.
                progress.settled != .missing || snapshot.info.created <= inUse.created
            {
                progress.settled = .file(snapshot.state)
                progress.suspect = nil
                progress.retryIn = nil
                progress.isOlder = true
                return .failed(IndexError(.older(snapshot.info, than: inUse), path: path))
            }
            target.publish(snapshot)
            progress = Progress(settled: .file(snapshot.state), isLoaded: true)
            return .loaded(snapshot.info)
        } catch {
            if !isRetry {
                guard atOnce || progress.suspect == sighting else {
                    progress.suspect = sighting
                    return nil
                }
                progress.suspect = nil
                progress.settled = sighting
                progress.isOlder = false
            }
            if case .unreadable = error.kind {
                // Without a snapshot every recipient is deferred meanwhile.
                progress.retryIn = progress.isLoaded ? 25 : 5
            } else {
                progress.retryIn = nil
            }
            return isRetry ? nil : .failed(error)
        }
    }

    private func sight() -> Sighting {
        var attributes = stat()
        guard stat(path, &attributes) == 0 else { return errno == ENOENT ? .missing : .hidden(errno) }
        return .file(FileStamp(attributes))
    }
}

extension IndexFault {
    /// Of a snapshot that would bring back what was so before.
    fileprivate static func older(_ snapshot: IndexInfo, than inUse: IndexInfo) -> IndexFault {
        IndexFault(
            .older,
            "it is of generation \(snapshot.generation), made \(snapshot.created.formatted(.iso8601)), and older than "
                + "generation \(inUse.generation), made \(inUse.created.formatted(.iso8601)), which is in use")
    }
}
