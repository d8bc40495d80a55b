import Foundation
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct BERTests {
    @Test(
        arguments: [
            (0, [2, 1, 0]), (127, [2, 1, 127]), (128, [2, 2, 0, 128]), (-1, [2, 1, 0xff]), (-129, [2, 2, 0xff, 0x7f]),
            (1_048_576, [2, 3, 0x10, 0, 0]), (Int32.min, [2, 4, 0x80, 0, 0, 0]),
        ] as [(Int32, [UInt8])])
    func numbers(_ value: Int32, _ encoded: [UInt8]) {
        #expect(BER.integer(value) == encoded)
        var reader = BERReader(encoded)
        #expect(reader.number(BER.integer) == value)
        #expect(reader.isAtEnd)
    }

    @Test(arguments: [0, 1, 127, 128, 255, 256, 65_535, 65_536, 200_000])
    func lengths(_ count: Int) {
        let bytes = [UInt8](repeating: 7, count: count)
        var reader = BERReader(BER.sequence(BER.octets(bytes), BER.boolean(true)))
        var content = reader.enter(BER.sequence)
        #expect(content?.optionalOctets() == bytes)
        #expect(content?.boolean(default: false) == true)
        #expect(content?.isAtEnd == true)
    }

    @Test func malformedInputIsReadWithoutACrash() {
        var random = SeededGenerator.announced("BER")
        let tags: [UInt8] = [
            0x01, 0x02, 0x04, 0x0a, 0x30, 0x31, 0x80, 0x81, 0x84, 0x88, 0xa1, 0xa2, 0xa3, 0xff, 0x00, 0x10,
        ]
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0..<40, using: &random)).map { _ in
                Bool.random(using: &random)
                    ? tags.randomElement(using: &random) ?? 0 : UInt8.random(in: 0...40, using: &random)
            }
            _ = ContentSyncInfo(bytes)
            _ = ContentSyncState(bytes)
            for oid in [LDAPControl.OID.syncDone, LDAPControl.OID.dirSync, LDAPControl.OID.pagedResults] {
                let controls = [LDAPControl(oid: oid, value: bytes)]
                _ = (controls.syncDone, controls.dirSync, controls.nextPage)
            }
        }
    }
}

@Suite struct LDAPControlTests {
    private let uuid = [UInt8](0..<16)

    @Test func readsTheControlsOfRFC4533() {
        let state = BER.sequence(BER.enumerated(2), BER.octets(uuid), BER.octets("csn".utf8))
        #expect(ContentSyncState(state)?.state == .modify)
        #expect(ContentSyncState(state)?.uuid == uuid)
        #expect(ContentSyncState(state)?.cookie == Array("csn".utf8))
        #expect(ContentSyncState(BER.sequence(BER.enumerated(9), BER.octets(uuid))) == nil)
        #expect(ContentSyncState(BER.sequence(BER.enumerated(1), BER.octets("short".utf8))) == nil)
        #expect(ContentSyncInfo(BER.element(0x80, Array("c".utf8))) == .newCookie(Array("c".utf8)))
        #expect(ContentSyncInfo(BER.element(0xa1, [])) == .refreshDelete(cookie: nil, isDone: true))
        #expect(
            ContentSyncInfo(BER.element(0xa2, BER.octets("c".utf8) + BER.boolean(false)))
                == .refreshPresent(cookie: Array("c".utf8), isDone: false))
        let set = BER.element(BER.set, BER.octets(uuid) + BER.octets(uuid.reversed()))
        #expect(
            ContentSyncInfo(BER.element(0xa3, BER.boolean(true) + set))
                == .idSet(cookie: nil, deletes: true, uuids: [uuid, uuid.reversed()]))
        #expect(ContentSyncInfo(BER.element(0xa3, BER.element(BER.set, BER.octets("x".utf8)))) == nil)
        let done = [LDAPControl(oid: LDAPControl.OID.syncDone, value: BER.sequence(BER.boolean(true)))]
        #expect(done.syncDone?.refreshDeletes == true && done.syncDone?.cookie == nil)
    }

    @Test func writesAndReadsTheControlsOfPagesAndDirSync() {
        #expect(LDAPControl.paged(size: 1_000, cookie: []).value == [0x30, 6, 2, 2, 0x03, 0xe8, 4, 0])
        let page = [
            LDAPControl(oid: LDAPControl.OID.pagedResults, value: BER.sequence(BER.integer(0), BER.octets([1, 2])))
        ]
        #expect(page.nextPage == [1, 2])
        #expect([LDAPControl]().nextPage == nil)
        let answer = BER.sequence(BER.integer(1), BER.integer(0), BER.octets([9]))
        let dirSync = [LDAPControl(oid: LDAPControl.OID.dirSync, value: answer)].dirSync
        #expect(dirSync?.hasMore == true && dirSync?.cookie == [9])
        #expect(LDAPControl.sync(cookie: nil, persists: true).value == [0x30, 3, 0x0a, 1, 3])
    }
}

@Suite struct LDAPNameTests {
    /// `uri`, `filter`, `name`, `condition` and `range` in ldap.cases.
    @Test func `LDAP texts are read as the table says`() throws {
        for item in try Case.load("ldap.cases") {
            let words = String(decoding: item.input, as: UTF8.self).split(separator: " ", maxSplits: 1)
            let text = words.count > 1 ? String(words[1]) : ""
            let found: String
            switch words.first {
            case "uri":
                found = LDAPURI(text).map { "\($0.scheme.rawValue) \($0.host) \($0.port) \($0.normalized)" } ?? "none"
            case "filter":
                found = LDAPFilter.isValid(text) ? LDAPFilter.attributes(text).joined(separator: ",") : "none"
            case "escape": found = LDAPFilter.escaped(text.utf8)
            case "within":
                let names = text.components(separatedBy: " | ").map(DistinguishedName.init)
                found =
                    names.count == 2
                    ? names[0].flatMap { name in names[1].map { "\(name.isWithin($0))" } } ?? "none" : "?"
            case "condition":
                let parts = text.components(separatedBy: " | ")
                found =
                    DirectoryConfiguration.Condition(parts[0]).map { condition in
                        parts.dropFirst().map { value in
                            Array(value.utf8).withUnsafeBufferPointer {
                                "\(condition.evaluate($0, now: Date()) == .holds)"
                            }
                        }.joined(separator: " ")
                    } ?? "none"
            case "range":
                found =
                    Array(text.utf8).withUnsafeBufferPointer { DirectoryEntryReader.range($0) }
                    .map { "\($0.attribute) \($0.next)" } ?? "none"
            default: found = "?"
            }
            #expect(found == item.expected, "line \(item.line)")
        }
    }

    @Test func anObjectIsIdentifiedBySixteenBytes() {
        let text = Array("96c39df6-7c5d-1041-8e96-c5187c5b4d01".utf8)
        #expect(text.withUnsafeBufferPointer { DirectoryEntryReader.id($0) }?.prefix(3) == [0x96, 0xc3, 0x9d])
        for wrong in ["", "96c39df6", "zzzzzzzz-7c5d-1041-8e96-c5187c5b4d01"] {
            #expect(Array(wrong.utf8).withUnsafeBufferPointer { DirectoryEntryReader.id($0) } == nil)
        }
    }
}

@Suite struct ServerListTests {
    @Test func aServerThatFailedIsTriedLastForAWhile() throws {
        let servers = try ["ldaps://a", "ldaps://b", "ldaps://c"].map { try #require(LDAPURI($0)) }
        var list = ServerList(servers)
        let start = ContinuousClock.now
        func names(_ seconds: Int) -> String { list.ordered(at: start + .seconds(seconds)).map(\.host).joined() }
        #expect(names(0) == "abc")
        list.failed(servers[0], at: start)
        #expect(names(9) == "bca")
        #expect(names(10) == "abc")
        list.failed(servers[0], at: start)
        #expect(names(19) == "bca")
        #expect(names(20) == "abc")
        for _ in 0..<10 { list.failed(servers[0], at: start) }
        #expect(names(299) == "bca")
        #expect(names(300) == "abc")
        list.failed(servers[1], at: start)
        list.failed(servers[2], at: start)
        #expect(names(1) == "abc", "all have failed: as they are configured")
        list.succeeded(servers[1])
        #expect(names(1) == "bac")
    }
}
