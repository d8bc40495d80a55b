import Foundation
import MailAddress
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct TableFuzzTests {
    /// In any bytes, each entry is listed, skipped or malformed, and each listed entry is an address in canonical form.
    @Test(arguments: [("postfix", TableFormat.postfix), ("sendmail", .sendmail), ("list", .list)])
    func anyBytesAreParsedAsATable(name: String, format: TableFormat) throws {
        let folder = try TemporaryFolder()
        let words = [
            "\n", "\r\n", "#", "\"", "@", "\\", "\t", " ", "To:", "From:", "RELAY", "REJECT", "ä", "\u{feff}", "!",
        ]
        var listed = 0
        let samples = try Case.load("\(name).cases").map(\.input)
        try Effort.forEachInput("table-\(name)", 1_000, samples: samples, words: words) { input in
            let path = try folder.write("table", Data(input))
            let file = try TableFile(path, source: "test")
            var parser = TableParser(format)
            var count = 0
            try parser.parse(LineReader(file.descriptor, name: path)) { listing in
                // A recipient that the table refuses is counted among those it skips.
                if !listing.flags.contains(.disabled) { count += 1 }
                let key = String(decoding: listing.key, as: UTF8.self)
                #expect(key.hasSuffix("@" + String(decoding: listing.domain, as: UTF8.self)))
            }
            listed += count
            #expect(count + parser.skipped.total <= parser.entries)
            // A line may be malformed within an entry.
            #expect(count + parser.skipped.total + parser.malformed.count >= parser.entries)
        }
        #expect(listed > 80, "\(listed)")
    }

    /// The same for a table of relay domains.
    @Test func anyBytesAreParsedAsATableOfDomains() throws {
        let folder = try TemporaryFolder()
        let samples = ["example.com\nexample.org OK\n# x\n", "\"bücher.example\"  x\n", ".example.net\n\n"].map {
            Array($0.utf8)
        }
        try Effort.forEachInput("domains", 500, samples: samples, words: ["\n", "\"", ".", "ä", "#", "xn--"]) { input in
            let path = try folder.write("domains", Data(input))
            _ = sourceError { try parseDomainTable(path: path) }
        }
    }
}
