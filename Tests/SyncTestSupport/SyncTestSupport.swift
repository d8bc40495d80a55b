package import Foundation
package import RecipientIndex
package import RecipientSources
package import RecipientSync
package import TestSupport

extension TemporaryFolder {
    package func callAsFunction(_ name: String) -> String { file(name) }

    /// Writes a file in place of another, as careful programs do.
    @discardableResult
    package func write(_ name: String, _ text: String) throws -> String {
        try write(name, Data(text.utf8))
    }

    @discardableResult
    package func write(_ name: String, _ data: Data) throws -> String {
        try data.write(to: URL(fileURLWithPath: self(name)), options: .atomic)
        return self(name)
    }

    /// A configuration with the files `name.table` of this folder as sources and without a time of grace.
    package func configuration(
        _ sources: [String] = ["one"], format: TableFormat = .list, relay: Set<String> = ["example.com", "example.org"]
    ) -> SyncConfiguration {
        var configuration = SyncConfiguration(
            statePath: self("state.sqlite"), indexPath: self("recipients.index"), relayDomains: relay,
            sources: sources.map {
                SourceConfiguration(name: $0, kind: .file(format: format, path: self($0 + ".table")))
            })
        configuration.grace = .zero
        return configuration
    }

    package func snapshot() throws -> IndexSnapshot { try IndexSnapshot(path: self("recipients.index")) }
}

/// `count` addresses `uN@domain`, one a line.
package func users(_ count: Int, from start: Int = 0, at domain: String = "example.com") -> String {
    (start..<start + count).map { "u\($0)@\(domain)\n" }.joined()
}

/// Whether a condition becomes true within a minute.
package func eventually(_ condition: () -> Bool) -> Bool {
    let limit = ContinuousClock.now + .seconds(60)
    while !condition() {
        if ContinuousClock.now > limit { return false }
        usleep(10_000)
    }
    return true
}

/// The `SyncError` that the work throws.
package func syncError<Value>(_ work: () throws -> Value) -> SyncError? {
    do {
        _ = try work()
        return nil
    } catch {
        return error as? SyncError
    }
}
