import TestSupport
import Testing

@testable import DirectorySync

@Suite struct DomainTableTests {
    @Test func readsLeftSidesOfATableAndAPlainList() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "relay_domains",
            """
            # relayed
            Example.COM\tOK

            example.org.  relay:[192.0.2.1]
              example.net
            .example.edu x
            example.com again
              # comment
            example.info\r

            """)
        #expect(try parseDomainTable(path: path) == ["example.com", "example.org", ".example.edu", "example.info"])
    }

    @Test func namesEveryMalformedLine() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "relay_domains",
            "  leading.example\nuser@example.com OK\n/etc/other\n!example.com\nexample.com\nexa mple\n..\n\u{0}\n")
        let error = try #require(syncError { try parseDomainTable(path: path) })
        #expect(error.kind == .malformed)
        let lines = error.description.split(separator: "\n")
        #expect(lines.map { $0.prefix(path.count + 3) } == [1, 2, 3, 4, 7, 8].map { "\(path):\($0):" })
    }

    @Test func aMissingTableIsNamed() throws {
        let folder = try TemporaryFolder()
        let error = try #require(syncError { try parseDomainTable(path: folder("none")) })
        #expect(error.kind == .unreachable)
        #expect(error.description.contains(folder("none")))
        #expect(error.description.contains("No such file"))
    }
}
