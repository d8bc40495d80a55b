import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexSnapshotTests {
    @Test func `a file with any flipped bit in its header is rejected`() throws {
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes.hundred()
        for offset in 0..<4096 {
            var file = sound
            file.bytes[offset] ^= 1 << UInt8(offset % 8)
            #expect(try file.opened(in: folder).error != nil, "byte \(offset)")
        }
        for bit in 0..<(144 * 8) {
            var file = sound
            file.bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(try file.opened(in: folder).error != nil, "bit \(bit)")
        }
    }

    @Test func `a file with a flipped bit anywhere is rejected`() throws {
        var random = SeededGenerator.announced("flips")
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes((0..<20_000).map { ("\($0)@example.com", []) })
        #expect(try sound.opened(in: folder).error == nil)
        let last = [sound.bytes.count - 1, Int(sound.number(112)), Int(sound.number(104)), Int(sound.number(112)) - 1]
        for offset in last + (0..<600).map({ _ in Int.random(in: 0..<sound.bytes.count, using: &random) }) {
            var file = sound
            file.bytes[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            #expect(try file.opened(in: folder).error != nil, "byte \(offset)")
        }
    }

    @Test func `a truncated or extended file is rejected`() throws {
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes.hundred()
        for length in 0..<sound.bytes.count {
            let file = SnapshotBytes(Array(sound.bytes[..<length]))
            #expect(try file.opened(in: folder).error != nil, "\(length) bytes")
        }
        for extra in [1, 7, 8, 64, 4096, 65536] {
            let file = SnapshotBytes(sound.bytes + [UInt8](repeating: 0, count: extra))
            #expect(try file.opened(in: folder).error?.reason.contains("it was extended") == true)
        }
        #expect(try SnapshotBytes([]).opened(in: folder).error?.reason == "is empty")
    }

    @Test func `an impossible header is rejected, though its checksums are right`() throws {
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes.hundred()
        for (line, fields) in try CaseFile("IndexHeader", fields: 4).lines {
            let offset = try #require(Int(fields[0]))
            var file = sound
            let old = file.number(offset)
            let value: UInt64
            if let sign = fields[2].first, sign == "+" || sign == "-" {
                value = old &+ UInt64(bitPattern: try #require(Int64(fields[2])))
            } else if fields[2].hasPrefix("0x") {
                value = try #require(UInt64(fields[2].dropFirst(2), radix: 16))
            } else {
                value = try #require(UInt64(fields[2]))
            }
            if fields[1] == "32" {
                file.set(offset, UInt32(truncatingIfNeeded: value))
            } else {
                file.set(offset, value)
            }
            file.seal()
            let error = try file.opened(in: folder).error
            #expect(
                error?.reason.contains(fields[3]) == true, "IndexHeader.cases:\(line): \(error?.reason ?? "accepted")")
            #expect(error?.description.hasPrefix(folder.file()) == true)
        }
    }

    @Test func `optional header fields that a reader doesn't know are accepted`() throws {
        let folder = try TemporaryFolder()
        var file = try SnapshotBytes.hundred()
        file.set(24, UInt64.max)
        file.set(1000, UInt64.max)
        file.seal()
        #expect(try file.opened(in: folder).get().lookup("user7@example.com") == [])
    }

    @Test func `impossible buckets and sources are rejected, though the checksums are right`() throws {
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes.hundred()
        let buckets = stride(from: 4096, to: 4096 + 19 * 64, by: 64)
        let bucket: Int = try #require(buckets.first { place in sound.bytes[place + 63] < 7 })
        let used = sound.bytes[bucket + 63]
        for (offset, value) in [
            (63, 8), (63, 0x0f), (63, used | 0x10), (63, used | 0x40), (63, used | 0x80), (63, used + 1), (62, 1),
            (56, 4), (56, 8),
        ] as [(Int, UInt8)] {
            var file = sound
            file.bytes[bucket + offset] = value
            file.seal()
            #expect(try file.opened(in: folder).error?.kind == .damaged, "byte \(offset): \(value)")
        }
        let sources = Int(sound.number(104))
        for length in [UInt64.max, 1 << 63, 1 << 21, sound.number(112), sound.number(sources) - 1, 0] {
            var file = sound
            file.set(sources, length)
            file.seal()
            #expect(try file.opened(in: folder).error?.reason.contains("sources") == true, "\(length)")
        }
        var file = sound
        file.bytes.replaceSubrange(sources + 8..<sources + 12, with: [0xff, 0xfe, 0x5b, 0x5b])
        file.seal()
        #expect(try file.opened(in: folder).error?.reason.contains("sources") == true)
    }

    @Test func `a list of checksums is rejected if its own checksum is wrong`() throws {
        let folder = try TemporaryFolder()
        var file = try SnapshotBytes.hundred()
        file.set(136, file.number(136) ^ 1)
        file.sealHeader()
        #expect(try file.opened(in: folder).error?.reason.contains("checksum of the list of checksums") == true)
    }

    @Test func `a key in an unused slot is not found`() throws {
        let folder = try TemporaryFolder()
        var file = try SnapshotBytes([("anna@example.com", [])])
        file.bytes[4096 + 63] = 0
        file.set(64, UInt64(0))
        file.set(72, UInt64(0))
        file.seal()
        #expect(try file.opened(in: folder).get().lookup("anna@example.com") == nil)
    }

    @Test func `a search ends even if all buckets have overflowed`() throws {
        let folder = try TemporaryFolder()
        var file = try SnapshotBytes((0..<100).map { ("user\($0)@example.com", []) })
        for bucket in 0..<19 {
            for slot in 0..<7 where file.number(4096 + bucket * 64 + slot * 8) == 0 {
                file.set(4096 + bucket * 64 + slot * 8, UInt64(bucket * 7 + slot + 1))
            }
            file.bytes[4096 + bucket * 64 + 63] = 0x87
        }
        file.set(64, UInt64(19 * 7))
        file.set(72, UInt64(19 * 7))
        file.seal()
        let snapshot = try file.opened(in: folder).get()
        #expect(snapshot.lookup("user7@example.com") == [])
        #expect(snapshot.lookup("nobody@example.com") == nil)
    }

    @Test func `a path that is not a file is rejected`() throws {
        let folder = try TemporaryFolder()
        func kind(_ path: String) -> IndexError.Kind? {
            Result { () throws(IndexError) in try IndexSnapshot(path: path) }.error?.kind
        }
        #expect(kind(folder.file("none")) == .missing)
        #expect(kind(folder.path) == .notAnIndex)
        #expect(kind("/dev/zero") == .notAnIndex)
        #expect(mkfifo(folder.file("fifo"), 0o600) == 0)
        #expect(kind(folder.file("fifo")) == .notAnIndex)
        try Data("user@example.com OK\n".utf8).write(to: URL(fileURLWithPath: folder.file("text")))
        #expect(kind(folder.file("text")) == .notAnIndex)
        #expect(kind(folder.file("text") + "/x") == .unreadable(ENOTDIR))
    }

    @Test func `an enormous file is rejected without being read`() throws {
        let folder = try TemporaryFolder()
        var file = try SnapshotBytes.hundred()
        try file.write(to: folder.file())
        // A sparse file, which takes no space.
        try #require(truncate(folder.file(), 1 << 40) == 0)
        #expect(throws: IndexError.self) { try IndexSnapshot(path: folder.file()) }
        file.set(120, UInt64(1) << 37)
        file.set(112, UInt64(1) << 37 - 8)
        file.sealHeader()
        try file.write(to: folder.file())
        try #require(truncate(folder.file(), 1 << 37) == 0)
        #expect(throws: IndexError.self) { try IndexSnapshot(path: folder.file()) }
    }

    @Test func `the opened file is read, even if another file gets its name`() throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        try builder.publish(to: folder.file(), sources: [])
        let first = try IndexSnapshot(path: folder.file())
        builder.add("bert@example.com")
        try builder.publish(to: folder.file(), sources: [])
        #expect(first.lookup("anna@example.com") != nil && first.lookup("bert@example.com") == nil)
        try FileManager.default.removeItem(atPath: folder.file())
        #expect(first.lookup("anna@example.com") != nil)
    }

    @Test func `random bytes after a sound header cause no crash`() throws {
        var random = SeededGenerator.announced("garbage")
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes.hundred()
        for _ in 0..<300 {
            var file = sound
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let offset = Int.random(in: 2..<18, using: &random) * 8
                let value = random.next()
                file.set(
                    offset, Bool.random(using: &random) ? value : value >> UInt64.random(in: 0..<64, using: &random))
            }
            file.seal()
            // Any salt, date and generation is valid; everything else must be rejected or harmless.
            if case .success(let snapshot) = try file.opened(in: folder) { _ = snapshot.lookup("user1@example.com") }
        }
    }

    @Test func `a loaded snapshot doesn't need its file any more`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file()
        // Several huge pages, and a part of one.
        let keys = (0..<250_000).map { "\($0)@example.com" }
        let sound = try SnapshotBytes(keys.map { ($0, []) })
        for (name, change) in [
            ("overwritten", { try garbage(sound.bytes.count).write(to: path) }),
            ("cut off", { try #require(truncate(path, 5000) == 0) }),
            ("emptied", { try #require(truncate(path, 0) == 0) }),
            ("deleted", { try #require(unlink(path) == 0) }),
        ] as [(String, () throws -> Void)] {
            // In place, so that it stays the same file.
            try sound.write(to: path)
            let snapshot = try IndexSnapshot(path: path)
            try change()
            #expect(keys.allSatisfy { snapshot.lookup($0) == [] }, "\(name)")
            #expect(snapshot.lookup("nobody@example.com") == nil, "\(name)")
        }
        let maps = try procFile("/proc/self/maps")
        #expect(!maps.contains(folder.path))
    }

    @Test func `reading the description alone is as strict as loading`() throws {
        var random = SeededGenerator.announced("information")
        let folder = try TemporaryFolder()
        let sound = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 7)
        try sound.write(to: folder.file())
        #expect(try IndexInfo(path: folder.file()) == IndexSnapshot(path: folder.file()).info)
        for _ in 0..<50 {
            var file = sound
            file.bytes[Int.random(in: 0..<file.bytes.count, using: &random)] ^= 1
            let refused = try #require(try file.opened(in: folder).error)
            let error = #expect(throws: IndexError.self) { try IndexInfo(path: folder.file()) }
            #expect(error == refused)
        }
    }

    @Test func `sources and table may be anywhere in the file`() throws {
        let folder = try TemporaryFolder()
        let old = try SnapshotBytes.hundred()
        let (table, sources, checksums) = (4096, Int(old.number(104)), Int(old.number(112)))
        // The sources come first, then a gap, then the table at the end of the second block.
        var body = Array(old.bytes[sources..<checksums])
        body += [UInt8](repeating: 0, count: 65536 - body.count)
        body += old.bytes[table..<table + Int(old.number(88)) * 64]
        var file = SnapshotBytes(Array(old.bytes[..<4096]) + body + [UInt8](repeating: 0, count: 16))
        file.set(96, UInt64(4096 + 65536))
        file.set(104, UInt64(4096))
        file.set(112, UInt64(4096 + body.count))
        file.set(120, UInt64(file.bytes.count))
        file.seal()
        let snapshot = try file.opened(in: folder).get()
        #expect(snapshot.lookup("user7@example.com") == [] && snapshot.info.sources.map(\.name) == ["s"])
    }

    private func garbage(_ count: Int) -> SnapshotBytes {
        SnapshotBytes((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    }
}
