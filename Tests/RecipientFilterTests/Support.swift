import Foundation
import RecipientFilter
import RecipientIndex
import System
import TestSupport

extension TemporaryFolder {
    /// A real snapshot of these recipients.
    func snapshot(_ recipients: [(String, RecipientFlags)], created: Date = Date()) throws -> IndexSnapshot {
        let path = file("\(UUID().uuidString).index")
        var builder = IndexBuilder()
        for (key, flags) in recipients { builder.add(key, flags) }
        _ = try builder.publish(to: path, created: created, sources: [])
        return try IndexSnapshot(path: path)
    }
}

extension ReplyKind {
    /// The kind of a key in `[replies]`.
    init?(key: String) {
        guard let kind = Self.allCases.first(where: { $0.key == key }) else { return nil }
        self = kind
    }
}

extension HarvestTable {
    /// Whether the client's network is over the limit.
    func isOver(_ client: IPAddress, limit harvest: Policy.Harvest, now: Int64) -> Bool {
        state(of: client, limit: harvest, now: now) == .overLimit
    }

    /// Counts an unknown recipient that can't be forgiven.
    func countUnknown(of client: IPAddress, limit harvest: Policy.Harvest, now: Int64) {
        countUnknown(UnsafeBufferPointer(start: nil, count: 0), of: client, limit: harvest, now: now)
    }
}
