public import Foundation
import System

/// Collects the keys of a snapshot and publishes them as a file.
///
/// A builder needs 16 bytes a key and doesn't keep the key itself. Each builder has a salt of its own.
public struct IndexBuilder: Sendable {
    private var entries: ContiguousArray<IndexEntry> = []
    /// The changes to `entries` to make before they are published, by fingerprint; nil removes the entry.
    private var edits: [UInt64: RecipientFlags?] = [:]
    private let hash: SipHash

    /// A builder without keys, with a new salt.
    public init() {
        var random = SystemRandomNumberGenerator()
        self.init(salt: SipHash(k0: random.next(), k1: random.next()))
    }

    init(salt: SipHash) { hash = salt }

    /// A builder with the keys and the salt of a snapshot, to publish it again with some keys changed.
    public init(editing snapshot: IndexSnapshot) {
        self.init(salt: snapshot.salt)
        entries.reserveCapacity(snapshot.info.entries)
        snapshot.forEachEntry { entries.append(IndexEntry(fingerprint: $0, flags: $1)) }
    }

    /// Sets the flags of a key, whether it was there or not, or removes the key if they are nil. The last change of a
    /// key counts.
    public mutating func set(_ key: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags?) {
        edits.updateValue(flags, forKey: hash.hash(key))
    }

    /// The number of keys added; a key that was added twice counts twice until the snapshot is published.
    public var count: Int { entries.count }

    /// Reserves memory for a number of keys, to avoid copying while they are added.
    public mutating func reserve(_ count: Int) { entries.reserveCapacity(max(0, count)) }

    /// Adds a key: a canonical address, or `@` and a domain for the whole domain.
    ///
    /// The flags of a key that is added again are merged by ``RecipientFlags/merged(with:)``.
    public mutating func add(_ key: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags = []) {
        entries.append(IndexEntry(fingerprint: hash.hash(key), flags: flags))
    }

    /// Adds a key.
    public mutating func add(_ key: String, _ flags: RecipientFlags = []) {
        var key = key
        key.withUTF8 { add($0, flags) }
    }

    /// Replaces the published file by one with all keys, at once and for good; see ``AtomicFile``.
    ///
    /// The file's mode is 0640: a filter that runs as another user reads it by the file's group.
    ///
    /// - Parameters:
    ///   - path: the file; its folder must exist.
    ///   - created: the time as of which the recipients are listed.
    ///   - generation: the publisher's number for the snapshot.
    ///   - sources: the sources of the recipients; at most 1 MiB as JSON.
    /// - Throws: ``IndexError`` with the file and the system's reason. The old file is untouched, unless the reason
    ///   says that the new one is in place but may be lost in a power cut.
    @discardableResult
    public mutating func publish(
        to path: String, created: Date = Date(), generation: UInt64 = 0, sources: [IndexSource]
    ) throws(IndexError) -> IndexInfo {
        applyEdits()
        mergeDuplicates()
        do throws(IndexFault) {
            guard generation <= IndexFormat.lastGeneration else {
                throw .damaged("can't be published as generation \(generation): the highest is 2^52")
            }
            // A configuration that names a list or a database by mistake must not destroy that file. If the file is
            // missing or can't be read, writing it succeeds or reports why not.
            guard (try? IndexFile(path: path).isReplaceable()) ?? true else {
                throw IndexFault(
                    .notAnIndex,
                    "is not a snapshot, and would be replaced by one; name another path, or move the file away")
            }
            let sourcesJSON = try StoredSource.encode(sources)
            let file = try Self.publishing { () throws(AtomicFile.Failure) in try AtomicFile(replacing: path) }
            let writer = IndexWriter(
                entries: entries, salt: hash, created: created.millisecondsSince1970, generation: generation,
                sources: sourcesJSON)
            let header = try writer.write(to: file.descriptor)
            try Self.publishing { () throws(AtomicFile.Failure) in try file.commit() }
            return IndexInfo(header, sources: sources.map { StoredSource($0).source })
        } catch {
            throw IndexError(error, path: path)
        }
    }

    /// Runs a step of publishing, and turns its failure into an ``IndexFault``.
    private static func publishing<Value>(_ body: () throws(AtomicFile.Failure) -> Value) throws(IndexFault) -> Value {
        do throws(AtomicFile.Failure) {
            return try body()
        } catch {
            let effect = error.isReplaced ? "is published, but" : "can't be published:"
            throw IndexFault(.notPublished(error.code), "\(effect) \(error)")
        }
    }

    /// The number of keys after the changes by ``set(_:_:)``.
    public var countAfterEdits: Int {
        entries.count { edits.index(forKey: $0.fingerprint) == nil } + edits.values.count { $0 != nil }
    }

    private mutating func applyEdits() {
        guard !edits.isEmpty else { return }
        entries.removeAll { edits.index(forKey: $0.fingerprint) != nil }
        for (fingerprint, flags) in edits {
            if let flags { entries.append(IndexEntry(fingerprint: fingerprint, flags: flags)) }
        }
        edits.removeAll()
    }

    private mutating func mergeDuplicates() {
        let unique = entries.withUnsafeMutableBufferPointer { entries in
            entries.sortByFingerprint()
            guard var last = entries.indices.first else { return 0 }
            for index in entries.indices.dropFirst() {
                if entries[index].fingerprint == entries[last].fingerprint {
                    entries[last].flags = entries[last].flags.merged(with: entries[index].flags)
                } else {
                    last += 1
                    entries[last] = entries[index]
                }
            }
            return last + 1
        }
        entries.removeSubrange(unique...)
    }
}
