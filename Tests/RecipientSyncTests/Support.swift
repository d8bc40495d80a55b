import Foundation
import TestSupport
import Testing

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

extension TemporaryFolder {
    func callAsFunction(_ name: String) -> String { file(name) }

    /// Writes a file in place of another, as careful programs do.
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try write(name, Data(text.utf8))
    }

    @discardableResult
    func write(_ name: String, _ data: Data) throws -> String {
        try data.write(to: URL(fileURLWithPath: self(name)), options: .atomic)
        return self(name)
    }

    /// A configuration with files `name.table` of this folder as sources, which rejects at once what goes.
    func configuration(
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

    func snapshot() throws -> IndexSnapshot { try IndexSnapshot(path: self("recipients.index")) }
}

/// `u0@domain` to the one before `u<count>@domain`, one a line.
func users(_ count: Int, from start: Int = 0, at domain: String = "example.com") -> String {
    (start..<start + count).map { "u\($0)@\(domain)\n" }.joined()
}

/// Whether a condition comes to hold within a minute.
func eventually(_ condition: () -> Bool) -> Bool {
    let limit = ContinuousClock.now + .seconds(60)
    while !condition() {
        if ContinuousClock.now > limit { return false }
        usleep(10_000)
    }
    return true
}

/// The error that work throws.
func syncError<Value>(_ work: () throws -> Value) -> SyncError? {
    do {
        _ = try work()
        return nil
    } catch {
        return error as? SyncError
    }
}
