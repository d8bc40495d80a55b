import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexBuilderTests {
    @Test(arguments: [0, 1, 2, 6, 7, 8, 27, 28, 1000, 100_000])
    func `a snapshot has every added key with its flags, and no other key`(count: Int) throws {
        var random = SeededGenerator.announced("round trip of \(count)")
        let folder = try TemporaryFolder()
        var expected: [String: RecipientFlags] = [:]
        while expected.count < count {
            expected["\(random.next() % 1_000_000_007)@\(random.next() % 50).example.com"] =
                RecipientFlags(rawValue: UInt8.random(in: 0...3, using: &random))
        }
        var builder = IndexBuilder()
        for (key, flags) in expected { builder.add(key, flags) }
        let info = try builder.publish(to: folder.file(), sources: [])
        let snapshot = try IndexSnapshot(path: folder.file())
        #expect(snapshot.info == info)
        #expect(info.recipients == count && info.entries == count && info.catchAllDomains == 0)
        for (key, flags) in expected where snapshot.lookup(key) != flags { Issue.record("\(key) has other flags") }
        for number in 0..<max(1000, count) where snapshot.lookup("x\(number)@example.com") != nil {
            Issue.record("x\(number)@example.com is listed")
        }
        #expect(snapshot.lookup("") == nil)
    }

    @Test(arguments: [0, 1, 8, 500, 20_000]) func `an edited snapshot equals one built from the edited list`(count: Int)
        throws
    {
        var random = SeededGenerator.announced("editing \(count)")
        let folder = try TemporaryFolder()
        var expected: [String: RecipientFlags] = [:]
        for number in 0..<count { expected["u\(number)@example.com"] = RecipientFlags(rawValue: UInt8(number % 4)) }
        var builder = IndexBuilder()
        for (key, flags) in expected { builder.add(key, flags) }
        try builder.publish(to: folder.file(), sources: [])
        for _ in 0..<20 {
            let snapshot = try IndexSnapshot(path: folder.file())
            var editor = IndexBuilder(editing: snapshot)
            for _ in 0..<Int.random(in: 0...40, using: &random) {
                let key = "u\(Int.random(in: 0..<count * 2 + 20, using: &random))@example.com"
                let flags =
                    Bool.random(using: &random)
                    ? RecipientFlags(rawValue: UInt8.random(in: 0...3, using: &random)) : nil
                expected[key] = flags
                Array(key.utf8).withUnsafeBufferPointer { editor.set($0, flags) }
            }
            #expect(editor.countAfterEdits == expected.count)
            let info = try editor.publish(to: folder.file(), sources: [])
            let edited = try IndexSnapshot(path: folder.file())
            #expect(edited.info == info && info.entries == expected.count)
            #expect(edited.salt == snapshot.salt)
            for (key, flags) in expected where edited.lookup(key) != flags { Issue.record("\(key) has other flags") }
            for number in 0..<count * 2 + 20 where expected["u\(number)@example.com"] == nil {
                #expect(edited.lookup("u\(number)@example.com") == nil)
            }
        }
    }

    /// Reads the file as postern-index(5) describes it, without the code of the module.
    @Test func `small and large tables have the documented format`() throws {
        var random = SeededGenerator.announced("layout")
        for count in Array(0..<80) + [5000, 20_000] {
            let salt = SipHash(k0: random.next(), k1: random.next())
            let keys = (0..<count).map { "\($0)@example.com" }
            let file = try SnapshotBytes(keys.map { ($0, [.internalOnly]) }, salt: salt)
            let table = Int(file.number(96))
            let buckets = Int(file.number(88))
            #expect(file.number(48) == salt.k0 && file.number(56) == salt.k1)
            #expect(Int(file.number(64)) == count)
            var placed: Set<UInt64> = []
            var passed: Set<Int> = []
            for bucket in 0..<buckets {
                let used = Int(file.bytes[table + bucket * 64 + 63] & 0x0f)
                for slot in 0..<used {
                    let fingerprint = file.number(table + bucket * 64 + slot * 8)
                    #expect(placed.insert(fingerprint).inserted)
                    #expect(file.bytes[table + bucket * 64 + 56 + slot] == 1)
                    var at = Int(fingerprint.multipliedFullWidth(by: UInt64(buckets)).high)
                    while at != bucket {
                        passed.insert(at)
                        at = (at + 1) % buckets
                    }
                }
            }
            for bucket in 0..<buckets {
                let last = file.bytes[table + bucket * 64 + 63]
                #expect(last & 0x80 != 0 ? last == 0x87 && passed.contains(bucket) : !passed.contains(bucket))
            }
            #expect(placed == Set(keys.map { key in Array(key.utf8).withUnsafeBufferPointer { salt.hash($0) } }))
        }
    }

    @Test func `the first bucket takes the entries that don't fit into the last`() throws {
        // Salts are tried until the last bucket overflows.
        let keys = (0..<27).map { "\($0)@example.com" }
        let file = try #require(
            (0..<500).lazy.compactMap { salt in
                try? SnapshotBytes(keys.map { ($0, []) }, salt: SipHash(k0: salt, k1: 0))
            }.first { $0.bytes[4096 + 4 * 64 + 63] == 0x87 })
        let folder = try TemporaryFolder()
        let snapshot = try file.opened(in: folder).get()
        #expect(snapshot.info.buckets == 5)
        for key in keys { #expect(snapshot.lookup(key) != nil, "\(key)") }
    }

    @Test func `a recipient takes at most twelve bytes`() throws {
        for count in [20_000, 100_000, 10_000_000, 1_000_000_000] {
            let buckets = IndexFormat.bucketCount(entries: count)
            #expect(Double(buckets * 64 + buckets / 128) / Double(count) < 11.9)
            #expect(buckets * 7 * 8 >= count * 10)
        }
        let file = try SnapshotBytes((0..<20_000).map { ("\($0)@example.com", []) })
        #expect(file.bytes.count < 12 * 20_000 + 4096)
    }

    @Test func `the flags of a key that is added twice are merged`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        for round in 0..<1000 {
            builder.add("anna@example.com", .internalOnly)
            builder.add("bert@example.com", round == 500 ? [] : .disabled)
            builder.add("carl@example.com", .disabled)
        }
        #expect(builder.count == 3000)
        let info = try builder.publish(to: folder.file(), sources: [])
        #expect(info.recipients == 3 && info.buckets == 1)
        let snapshot = try IndexSnapshot(path: folder.file())
        #expect(snapshot.lookup("anna@example.com") == .internalOnly)
        #expect(snapshot.lookup("bert@example.com") == [])
        #expect(snapshot.lookup("carl@example.com") == .disabled)
    }

    @Test func `keys can be added after publishing`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        builder.reserve(-1)
        builder.add("anna@example.com")
        try builder.publish(to: folder.file(), sources: [])
        builder.add("bert@example.com")
        try builder.publish(to: folder.file(), sources: [])
        let snapshot = try IndexSnapshot(path: folder.file())
        #expect(snapshot.info.recipients == 2 && snapshot.lookup("anna@example.com") == [])
    }

    @Test func `domains are counted apart from recipients`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        builder.add("@example.org", .catchAll)
        builder.add("@example.net", [.catchAll, .relayDomain])
        builder.add("@example.com", .relayDomain)
        builder.add("@example.edu", .relayDomain)
        let info = try builder.publish(to: folder.file(), sources: [])
        #expect(info.recipients == 1 && info.catchAllDomains == 2 && info.entries == 5)
        let snapshot = try IndexSnapshot(path: folder.file())
        #expect(snapshot.info == info)
        #expect(snapshot.lookup("@example.org") == .catchAll)
        #expect(snapshot.lookup("anna@example.org") == nil)
    }

    @Test func `a file contains no address, and has a salt of its own`() throws {
        let folder = try TemporaryFolder()
        var files: [[UInt8]] = []
        for name in ["a", "b"] {
            var builder = IndexBuilder()
            for number in 0..<500 { builder.add("mailbox-\(number)@secret.example") }
            builder.add("@secret.example", .catchAll)
            let source = IndexSource(name: "list", type: "file", recipients: 500, asOf: Date())
            try builder.publish(to: folder.file(name), sources: [source])
            let file = try SnapshotBytes(path: folder.file(name)).bytes
            let text = String(decoding: file, as: Unicode.ASCII.self)
            #expect(text.contains("PSTRNIDX") && text.contains("list"))
            for part in ["mailbox", "secret", "example", "@"] where text.contains(part) {
                // A lone "@" may be a byte of a fingerprint.
                #expect(part == "@", "\(part) stands in the file")
            }
            files.append(file)
        }
        #expect(files[0][48..<64] != files[1][48..<64])
        #expect(files[0][4096..<8192] != files[1][4096..<8192])
    }

    @Test func `the sources are stored with times in milliseconds`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        let sources = [
            IndexSource(name: "Zentrale \"Nord\" – ü", type: "active-directory", recipients: 7, asOf: Date()),
            IndexSource(name: "", type: "", recipients: 0, asOf: Date(timeIntervalSince1970: 0.001)),
        ]
        let info = try builder.publish(
            to: folder.file(), created: Date(timeIntervalSince1970: 1_700_000_000.1234), generation: 1 << 52,
            sources: sources)
        let read = try IndexSnapshot(path: folder.file()).info
        #expect(read == info && read.generation == 1 << 52 && read.version == 1)
        #expect(read.created == Date(timeIntervalSince1970: 1_700_000_000.123))
        #expect(read.sources.map(\.name) == sources.map(\.name))
        #expect(abs(read.sources[0].asOf.timeIntervalSince(sources[0].asOf)) < 0.001)
        #expect(read.sources[1].asOf == sources[1].asOf)
        let size = try FileManager.default.attributesOfItem(atPath: folder.file())[.size] as? Int
        #expect(read.fileSize == size)
    }

    @Test func `any date is accepted, and a description of sources over 1 MiB is rejected`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        for date in [
            Date.distantPast, .distantFuture, Date(timeIntervalSince1970: .infinity), Date(timeIntervalSince1970: .nan),
        ] {
            try builder.publish(to: folder.file(), created: date, sources: [])
            _ = try IndexSnapshot(path: folder.file())
        }
        let before = try SnapshotBytes(path: folder.file()).bytes
        let source = IndexSource(
            name: String(repeating: "x", count: 1 << 20), type: "file", recipients: 1, asOf: Date())
        #expect(throws: IndexError.self) { try builder.publish(to: folder.file(), sources: [source]) }
        #expect(try SnapshotBytes(path: folder.file()).bytes == before)
    }

    @Test(arguments: ["user@example.com\n", "a", "SQLite format 3\u{0}", "PSTRNID"])
    func `a file of another kind is not replaced`(_ text: String) throws {
        let folder = try TemporaryFolder()
        try folder.write(text, as: "recipients.index")
        var builder = IndexBuilder()
        builder.add("user@example.com")
        let error = #expect(throws: IndexError.self) { try builder.publish(to: folder.file(), sources: []) }
        #expect(error?.kind == .notAnIndex)
        #expect(try String(contentsOfFile: folder.file(), encoding: .utf8) == text)
        #expect(try folder.names == ["recipients.index"])
    }

    @Test(arguments: [0, 3, 8, 4096])
    func `a file of zeros, which a power cut may leave, is replaced`(_ count: Int) throws {
        let folder = try TemporaryFolder()
        try Data(count: count).write(to: URL(fileURLWithPath: folder.file()))
        var builder = IndexBuilder()
        builder.add("user@example.com")
        try builder.publish(to: folder.file(), sources: [])
        #expect(try IndexSnapshot(path: folder.file()).lookup("user@example.com") != nil)
    }

    @Test func `fingerprints of any distribution are sorted`() {
        var random = SeededGenerator.announced("sort")
        for count in [0, 1, 2, 48, 49, 1000, 30_000] {
            for mask: UInt64 in [.max, 0xff, 0xff00_0000_0000_0000, 0x0000_0101_0000_0001, 0] {
                var entries = (0..<count).map { _ in
                    let fingerprint = random.next() & mask
                    return IndexEntry(
                        fingerprint: fingerprint, flags: .init(rawValue: UInt8(truncatingIfNeeded: fingerprint)))
                }
                let expected = entries.map(\.fingerprint).sorted()
                entries.withUnsafeMutableBufferPointer { $0.sortByFingerprint() }
                #expect(entries.map(\.fingerprint) == expected)
                #expect(entries.allSatisfy { $0.flags.rawValue == UInt8(truncatingIfNeeded: $0.fingerprint) })
            }
        }
    }
}
