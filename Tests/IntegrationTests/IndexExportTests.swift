import Foundation
import Testing

extension FilterAlone {
    @Suite struct IndexExportTests {
        @Test("index export prints the listed recipients in the form of each table")
        func formats() throws {
            let configuration = try PosternConfiguration(in: Workspace())
            try configuration.write()
            let early = try configuration.run(["index", "export"])
            #expect(early.ending == .exited(66))
            #expect(early.output == "" && early.error.contains("there is no sync state"))
            let sync = try configuration.run(["sync", "--once"])
            #expect(sync.ending == .exited(0), "\(sync.error)")

            let list = try configuration.run(["index", "export"])
            #expect(list.ending == .exited(0))
            #expect(list.output == "@example.org\nanna@example.com\nbob@example.com\ncarl@example.net\n")
            #expect(list.error == "")
            let postfix = try configuration.run(["index", "export", "--format", "postfix"]).output
            #expect(postfix == "@example.org OK\nanna@example.com OK\nbob@example.com OK\ncarl@example.net OK\n")
            let sendmail = try configuration.run(["index", "export", "--format", "sendmail"]).output
            #expect(sendmail.hasPrefix("To:example.org RELAY\nTo:anna@example.com RELAY\n"), "\(sendmail)")
            let json = try configuration.run(["index", "export", "--format", "json"])
            let entries = try #require(
                try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [[String: Any]])
            #expect(entries.map { $0["address"] as? String } == list.output.split(separator: "\n").map(String.init))
            #expect(entries.map { $0["catch_all"] as? Bool } == [true, false, false, false])
        }
    }
}
