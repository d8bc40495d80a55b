import Foundation
import RecipientSources
import System

/// A file that a configuration was read from, and the state in which it was read.
struct ConfigurationStamp: Sendable, Equatable {
    let path: String
    private let stamp: FileStamp?

    /// The present state. Taken before the file is read, it differs from the state after any later change.
    init(_ path: String) {
        self.path = path
        stamp = FileStamp(path: path)
    }
}

/// Detects changes of the files of a configuration. Each state is due once, when no file has changed for a second and
/// none is being written.
struct ConfigurationWatch {
    /// How long the files must not have changed: a file that is being written may be sound and not complete.
    static let rest = Duration.seconds(1)

    /// The state that the filter has handled: it is in force, or was rejected.
    private var settled: [ConfigurationStamp]
    private var changed: (state: [ConfigurationStamp], since: ContinuousClock.Instant)?

    /// Detects writers of the files, by path.
    private var watches: [String: TableWatch] = [:]

    /// Watches for changes after this state.
    init(_ settled: [ConfigurationStamp]) {
        self.settled = settled
        watchFiles()
    }

    private mutating func watchFiles() {
        var kept: [String: TableWatch] = [:]
        for stamp in settled { kept[stamp.path] = watches[stamp.path] ?? TableWatch(stamp.path) }
        watches = kept
    }

    /// The present state of the files.
    var current: [ConfigurationStamp] { settled.map { ConfigurationStamp($0.path) } }

    /// Whether the files have changed and then stayed unchanged long enough. Called regularly.
    mutating func isDue(now: ContinuousClock.Instant) -> Bool {
        let state = current
        guard state != settled else {
            changed = nil
            return false
        }
        guard let changed, changed.state == state else {
            changed = (state, now)
            return false
        }
        guard now - changed.since >= Self.rest else { return false }
        return !watches.values.contains(where: \.isBeingWritten)
    }

    /// Records that the filter has handled a state, and watches its files from now on.
    mutating func settle(_ state: [ConfigurationStamp]) {
        settled = state
        changed = nil
        watchFiles()
    }
}
