import RecipientSources
import System

extension Synchronizer {
    /// Runs a sync on the state under its lock. A damaged state is moved aside, and the sync runs on a new one.
    func runLocked(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        let wasUsed = SyncState.wasUsed(path)
        // Before the lock beside it: the state's messages for a missing folder are better, and no lock is made beside another program's file.
        if !wasUsed { try checkForOtherFile() }
        try SyncState.createPrivately(path)
        let lock = try SyncLock(state: path, patience: .seconds(2), check: options.check)
        defer { lock.release() }
        do throws(SyncError) {
            return try runTwiceIfDamaged(options)
        } catch {
            guard error.isDamage else { throw error }
            try options.check()
            return try runOnNewState(options, note: try moveAside(error, wasUsed: wasUsed))
        }
    }

    /// Runs a sync without writing anything: on the state, or on an empty one if there is none or it is damaged.
    func tryOut(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        do throws(SyncError) {
            let state: SyncState
            if let existing = try SyncState(reading: path) { state = existing } else { state = try SyncState() }
            return try run(on: state, options)
        } catch {
            guard error.isDamage else { throw error }
            try checkIsSyncState(error, wasUsed: SyncState.wasUsed(path))
            return try run(
                on: SyncState(), options, notes: ["\(error); a sync would move it aside and make a new one"])
        }
    }

    /// Runs a sync on the state; a second time if it seems damaged, since to SQLite a page that the disk failed to read looks the same.
    ///
    /// - Throws: an error that says damage only if the file can be read and is damaged.
    private func runTwiceIfDamaged(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        do throws(SyncError) {
            return try run(on: SyncState(path: path), options)
        } catch {
            guard error.isDamage else { throw error }
            if let code = FileProbe.failure(reading: [path, path + "-wal"]) {
                throw SyncError(
                    .state, "the sync state \(path) can't be read: \(systemMessage(code))",
                    advice: SyncState.advice(code, path: path))
            }
        }
        try options.check()
        return try run(on: SyncState(path: path), options)
    }

    /// Runs a sync on a new state, and says in its report or error what happened to the old one.
    private func runOnNewState(_ options: SyncOptions, note: String) throws(SyncError) -> SyncReport {
        do throws(SyncError) {
            try SyncState.createPrivately(configuration.statePath)
            return try run(on: SyncState(path: configuration.statePath), options, notes: [note])
        } catch {
            guard error.kind != .cancelled else { throw error }
            throw SyncError(
                error.kind, "\(note)\n\(error)", source: error.source, report: error.report, sources: error.sources,
                advice: error.advice)
        }
    }

    /// Throws if there is a file where no sync has been before, and it is no sync state.
    private func checkForOtherFile() throws(SyncError) {
        do throws(SyncError) {
            _ = try SyncState(reading: configuration.statePath)
        } catch {
            guard error.isDamage else { throw error }
            try checkIsSyncState(error, wasUsed: false)
        }
    }

    /// Throws unless a damaged file is a sync state of this version, which may be moved aside.
    private func checkIsSyncState(_ error: SyncError, wasUsed: Bool) throws(SyncError) {
        switch SyncState.damagedFile(configuration.statePath, wasUsed: wasUsed) {
        case .syncState: return
        case .newerSyncState:
            throw SyncError(
                .state, "\(error); a newer version wrote it, so it was left alone", advice: SyncState.moveAway)
        case .other:
            throw SyncError(
                .state, "\(error); nothing shows that it ever was a sync state, so it was left alone",
                advice: "name another path as sync.state, or move that file away")
        }
    }

    /// Moves a damaged state aside; returns a note that says so.
    private func moveAside(_ error: SyncError, wasUsed: Bool) throws(SyncError) -> String {
        try checkIsSyncState(error, wasUsed: wasUsed)
        let place = try SyncState.moveAside(configuration.statePath)
        return "\(error); "
            + (place.map { "it was moved to \($0)" } ?? "it was removed, because several damaged ones are kept already")
            + ", and a new one is made from all sources"
    }
}
