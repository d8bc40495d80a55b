public import Foundation
import System

/// Collects keys and publishes them as a snapshot file.
///
/// It keeps 16 bytes a key and never the key itself. As the salt is made with the builder, two builders make different files of the same
/// keys.
public struct IndexBuilder: Sendable {
    private var entries: ContiguousArray<IndexEntry> = []
    /// What is done to `entries` before they are published, by fingerprint; nil takes one out.
    private var edits: [UInt64: RecipientFlags?] = [:]
    private let hash: SipHash

    /// A builder without keys and with a salt of its own.
    public init() {
        var random = SystemRandomNumberGenerator()
        self.init(salt: SipHash(k0: random.next(), k1: random.next()))
    }

    init(salt: SipHash) { hash = salt }

    /// A builder with the keys of a snapshot and its salt, to publish it again with some of them changed.
    public init(editing snapshot: IndexSnapshot) {
        self.init(salt: snapshot.salt)
        entries.reserveCapacity(snapshot.info.entries)
        snapshot.forEachEntry { entries.append(IndexEntry(fingerprint: $0, flags: $1)) }
    }

    /// Puts a key in with these flags, whatever it had, or takes it out; the last word on a key holds.
    public mutating func set(_ key: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags?) {
        edits.updateValue(flags, forKey: hash.hash(key))
    }

    /// How many keys were added; one that was added twice counts twice until it is published.
    public var count: Int { entries.count }

    /// Makes room for so many keys in all, which spares copying while they are added.
    public mutating func reserve(_ count: Int) { entries.reserveCapacity(max(0, count)) }

    /// Adds a key: the canonical address, or `@` and a domain for the whole of it.
    ///
    /// Where a key is added more than once, its flags are ``RecipientFlags/merged(with:)``.
    public mutating func add(_ key: UnsafeBufferPointer<UInt8>, _ flags: RecipientFlags = []) {
        entries.append(IndexEntry(fingerprint: hash.hash(key), flags: flags))
    }

    /// Adds a key: the canonical address, or `@` and a domain for the whole of it.
    public mutating func add(_ key: String, _ flags: RecipientFlags = []) {
        var key = key
        key.withUTF8 { add($0, flags) }
    }

    /// Puts a file with all keys in the place of the published one, at once and for good.
    ///
    /// It is written to `.<name>.<six letters or digits>` in the same folder, synced, renamed, and the folder is synced; so whatever
    /// happens meanwhile, the name stands for the whole old file or the whole new one. What an earlier run that was killed has left is
    /// removed. The file's mode is 0640: a filter that runs as another user reads it by its group.
    ///
    /// - Parameters:
    ///   - path: the file; its folder must exist.
    ///   - created: when the recipients were as they are in it.
    ///   - generation: the publisher's own number for it.
    ///   - sources: where the recipients came from; at most 1 MiB as JSON.
    /// - Returns: what the file says of itself.
    /// - Throws: ``IndexError`` with the file and the system's reason; the old file is untouched, unless the reason says that the
    ///   new one is in place and only its durability is in doubt.
    @discardableResult
    public mutating func publish(
        to path: String, created: Date = Date(), generation: UInt64 = 0, sources: [IndexSource]
    ) throws(IndexError) -> IndexInfo {
        applyEdits()
        mergeDuplicates()
        do throws(IndexFault) {
            guard generation <= IndexFormat.lastGeneration else {
                throw .damaged("can't be published as generation \(generation): the last one is 2^52")
            }
            // A configuration that names a list or a database must not cost that file. What isn't there, or can't be read, is
            // for the writing to find out.
            guard (try? IndexFile(path: path).isReplaceable()) ?? true else {
                throw IndexFault(
                    .notAnIndex,
                    "is a file of another kind, which a snapshot would replace: name another, or move it away")
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

    private static func publishing<Result>(_ body: () throws(AtomicFile.Failure) -> Result) throws(IndexFault) -> Result
    {
        do throws(AtomicFile.Failure) {
            return try body()
        } catch {
            let effect = error.isReplaced ? "is published, but" : "can't be published:"
            throw IndexFault(.notPublished(error.code), "\(effect) \(error)")
        }
    }

    /// How many keys there are once what ``set(_:_:)`` was told is done.
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

/// A key as the builder keeps it.
struct IndexEntry {
    var fingerprint: UInt64
    var flags: RecipientFlags
}

extension UnsafeMutableBufferPointer<IndexEntry> {
    /// Sorts in place by fingerprint; a radix sort, as fingerprints are spread evenly. Entries with the same
    /// fingerprint come in any order.
    func sortByFingerprint() { sort(shift: 56) }

    /// Sorts by the byte at `shift` and then each part by the lower bytes.
    private func sort(shift: UInt64) {
        if count <= 48 { return insertionSort() }
        let ends = partition(shift: shift)
        guard shift > 0 else { return }
        var start = 0
        for end in ends {
            if end - start > 1 { Self(rebasing: self[start..<end]).sort(shift: shift - 8) }
            start = end
        }
    }

    /// Moves each entry into the part of its byte ("American flag sort"); returns where each part ends.
    private func partition(shift: UInt64) -> [Int] {
        var ends = [Int](repeating: 0, count: 256)
        for entry in self { ends[entry.byte(shift)] += 1 }
        var next = [Int](repeating: 0, count: 256)
        var total = 0
        for byte in 0..<256 {
            next[byte] = total
            total += ends[byte]
            ends[byte] = total
        }
        for byte in 0..<256 {
            while next[byte] < ends[byte] {
                var entry = self[next[byte]]
                var place = entry.byte(shift)
                while place != byte {
                    swap(&self[next[place]], &entry)
                    next[place] += 1
                    place = entry.byte(shift)
                }
                self[next[byte]] = entry
                next[byte] += 1
            }
        }
        return ends
    }

    private func insertionSort() {
        for index in indices.dropFirst() {
            let entry = self[index]
            var place = index
            while place > 0, self[place - 1].fingerprint > entry.fingerprint {
                self[place] = self[place - 1]
                place -= 1
            }
            self[place] = entry
        }
    }
}

extension IndexEntry {
    @inline(__always)
    fileprivate func byte(_ shift: UInt64) -> Int { Int(truncatingIfNeeded: fingerprint &>> shift & 0xff) }
}
