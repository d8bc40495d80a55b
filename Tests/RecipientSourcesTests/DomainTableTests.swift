import Foundation
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct DomainTableTests {
    @Test func theLeftSidesOfATableAndAPlainListAreDomains() throws {
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

    @Test func domainsOfATransportTableAreRead() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "transport",
            """
            # routes
            example.com         smtp:[10.0.0.5]
            joe@example.net     smtp:[10.0.0.6]
            .Example.org        relay:[10.0.0.7]:25
            *                   smtp:[relay.example]
            gone.example        error:5.1.2 no longer here
            late.example        retry:4.0.0 not now
            example.edu
              smtp:[10.0.0.8]

            """)
        #expect(try parseDomainTable(path: path, format: .transport) == ["example.com", ".example.org", "example.edu"])
    }

    @Test func domainsOfAnAccessTableAreRead() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "access",
            """
            Connect:192.0.2             RELAY
            From:sender.example         RELAY
            To:example.com              RELAY
            to:Example.org              relay
            example.net                 RELAY
            10.20                       RELAY
            192.0.2.1                   RELAY
            IPv6:2001:db8               RELAY
            To:joe@example.edu          RELAY
            joe@                        RELAY
            To:refused.example          REJECT
            To:accepted.example         OK
            example.info                550 no
            To:.sub.example             RELAY

            """)
        #expect(
            try parseDomainTable(path: path, format: .access)
                == ["example.com", "example.org", "example.net", ".sub.example"])
    }

    @Test func domainsOfAMailertableAreRead() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "mailertable",
            "example.com\tesmtp:[10.0.0.5]\n.example.org\tsmtp:x\ngone.example\terror:nohost no such host\n.\tsmtp:hub\n"
        )
        #expect(try parseDomainTable(path: path, format: .mailertable) == ["example.com", ".example.org"])
    }

    @Test func malformedLinesOfTransportAndAccessAreReported() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "table",
            "To:exa_mple..com RELAY\nTo:-x.example RELAY\n  continued\nexample.com RELAY\none.test,two.test RELAY\n")
        let access = try #require(sourceError { try parseDomainTable(path: path, format: .access) })
        #expect(
            access.description.split(separator: "\n").map { $0.prefix(path.count + 3) }
                == [1, 2, 3, 5].map { "\(path):\($0):" })
        #expect(access.description.contains("accepted: \"To:example.com RELAY\""))
        let transport = try #require(sourceError { try parseDomainTable(path: path, format: .transport) })
        #expect(
            transport.description.split(separator: "\n").map { $0.prefix(path.count + 3) }
                == [1, 2, 5].map { "\(path):\($0):" })
    }

    @Test(arguments: DomainTableFormat.allCases) func aUTF16TableIsReported(format: DomainTableFormat) throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("table", try #require("example.com RELAY\n".data(using: .utf16)))
        let error = try #require(sourceError { try parseDomainTable(path: path, format: format) })
        #expect(error.description.contains("UTF-16"))
        #expect(error.description.split(separator: "\n").count == 1)
    }

    @Test func everyMalformedLineIsReported() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            "relay_domains",
            "  leading.example\nuser@example.com OK\n/etc/other\n!example.com\nexample.com\nexa mple\n..\n\u{0}\n")
        let error = try #require(sourceError { try parseDomainTable(path: path) })
        #expect(error.kind == .malformed)
        let lines = error.description.split(separator: "\n")
        #expect(lines.map { $0.prefix(path.count + 3) } == [1, 2, 3, 4, 7, 8].map { "\(path):\($0):" })
    }

    @Test func aMissingTableIsReported() throws {
        let folder = try TemporaryFolder()
        let error = try #require(sourceError { try parseDomainTable(path: folder("none")) })
        #expect(error.kind == .unreachable)
        #expect(error.description.contains(folder("none")))
        #expect(error.description.contains("No such file"))
    }
}
