import Foundation
import RecipientSources
import System

/// A file that a configuration was read from, with what tells one state of it from another without reading it.
struct ConfigurationStamp: Sendable, Equatable {
    let path: String
    private let stamp: FileStamp?

    /// The state of now: to be taken before the file is read, so that a later change shows.
    init(_ path: String) {
        self.path = path
        stamp = FileStamp(path: path)
    }
}

/// Notices that the files of a configuration have changed, once for each state that they come to rest in. While somebody writes to one of
/// them, they aren't at rest.
struct ConfigurationWatch {
    /// How long a changed file must hold still: one that is being written may be sound and not yet whole.
    static let rest = Duration.seconds(1)

    /// The state that is done with: in force, or refused.
    private var settled: [ConfigurationStamp]
    private var changed: (state: [ConfigurationStamp], since: ContinuousClock.Instant)?

    /// Who writes to the files, by path.
    private var watches: [String: TableWatch] = [:]

    /// A watch for changes after this state.
    init(_ settled: [ConfigurationStamp]) {
        self.settled = settled
        watchFiles()
    }

    private mutating func watchFiles() {
        var kept: [String: TableWatch] = [:]
        for stamp in settled { kept[stamp.path] = watches[stamp.path] ?? TableWatch(stamp.path) }
        watches = kept
    }

    /// The files in their state of now.
    var current: [ConfigurationStamp] { settled.map { ConfigurationStamp($0.path) } }

    /// Whether the files have changed and held still; to be called every now and then.
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

    /// Takes a state for done with; its files are the ones to be watched from now on.
    mutating func settle(_ state: [ConfigurationStamp]) {
        settled = state
        changed = nil
        watchFiles()
    }
}
