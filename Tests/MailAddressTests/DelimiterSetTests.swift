import MailAddress
import Testing

struct DelimiterSetTests {
    @Test(arguments: try Case.load("details.cases"))
    func detail(_ expected: Case) throws {
        let fields = String(decoding: expected.input, as: UTF8.self).split(separator: " ", maxSplits: 1)
        try #require(fields.count == 2)
        let address = try RecipientAddress(path: String(fields[1]))
        let bare = address.withoutDetail(delimiters: DelimiterSet(String(fields[0])))
        if expected.expected == Array("-".utf8) {
            #expect(bare == nil)
        } else {
            #expect(bare.map { ParsedPath($0) } == ParsedPath(expecting: expected))
            #expect(try bare == RecipientAddress(path: try #require(bare).key.quotedWhereNeeded))
        }
    }

    @Test func noDelimiterNoDetail() throws {
        let address = try RecipientAddress(path: "john+x@example.com")
        #expect(DelimiterSet("").isEmpty)
        #expect(DelimiterSet("ö").isEmpty)
        #expect(!DelimiterSet("+").isEmpty)
        #expect(address.withoutDetail(delimiters: DelimiterSet("")) == nil)
    }
}

extension String {
    /// A key as a path again.
    var quotedWhereNeeded: String {
        let at = lastIndex(of: "@") ?? endIndex
        let local = self[..<at].map { "\\\"".contains($0) ? "\\\($0)" : String($0) }.joined()
        return "<\"\(local)\"\(self[at...])>"
    }
}
