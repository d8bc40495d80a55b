import Foundation

/// What a directory source goes on from; kept in the state with the entries that belong to it.
struct DirectoryCursor: Codable, Equatable {
    /// How changes are followed.
    enum Method: String, Codable {
        /// They aren't: everything is read each time.
        case full
        /// RFC 4533, a cookie for each base.
        case sync
        /// DirSync, a cookie for each naming context.
        case dirSync
        /// uSNChanged of one domain controller, a number for each naming context.
        case usn
    }

    var method: Method
    /// By base or naming context.
    var positions: [String: Data] = [:]
    /// The identity of the domain controller whose numbers they are.
    var server: String?
    /// When everything was last read.
    var reconciled: Date
    /// The search references that the list was read with; nil from an older version, which didn't keep them.
    var references: [String]?
    /// Grows with every pull, so that each has a cursor of its own.
    var serial = 0

    init(_ method: Method, reconciled: Date) {
        self.method = method
        self.reconciled = reconciled
    }

    /// The cursor in the state; nil for none, or for one of another version.
    init?(_ data: Data?) {
        guard let data, let cursor = try? JSONDecoder().decode(Self.self, from: data) else { return nil }
        self = cursor
    }

    var encoded: Data? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return try? encoder.encode(self)
    }
}
