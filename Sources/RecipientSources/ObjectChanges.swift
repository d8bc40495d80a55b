/// Sixteen octets that name an object: an entryUUID (RFC 4530), an objectGUID.
package struct ObjectID: Hashable {
    private let high: UInt64
    private let low: UInt64

    /// nil unless there are sixteen.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// Which objects of a source a pull of changes replaces. An object's name is a prefix octet, which tells the search bases of a source
/// apart, and its sixteen octets.
package struct ObjectChanges {
    /// Changed or gone.
    package var replaced: Set<[UInt8]> = []
    /// By prefix: the objects that are still there, where a server tells only of these.
    var present: [UInt8: Set<ObjectID>] = [:]
    /// The keys that the changed objects list now, one after the other with a zero octet behind each; nil once they are too many
    /// for the short way.
    package private(set) var keys: [UInt8]? = []

    /// How many octets of keys go the short way.
    private static let mostKeys = 4 << 20
    /// How many objects go the short way: beyond, one walk over the whole list is cheaper than as many searches.
    private static let mostObjects = 50_000

    mutating func note(_ key: UnsafeBufferPointer<UInt8>) {
        guard let count = keys?.count else { return }
        guard count + key.count < Self.mostKeys else {
            keys = nil
            return
        }
        keys?.append(contentsOf: key)
        keys?.append(0)
    }

    /// Whether the addresses that may have changed can be found without a walk over the whole list.
    package var isShort: Bool { keys != nil && present.isEmpty && replaced.count <= Self.mostObjects }

    /// Whether an entry of the state with this object no longer stands.
    package func replaces(_ object: some Collection<UInt8>) -> Bool {
        if replaced.contains(Array(object)) { return true }
        guard let prefix = object.first, let present = present[prefix], let id = ObjectID(object.dropFirst()) else {
            return false
        }
        return !present.contains(id)
    }
}
