import MailAddress
import Testing

struct DelimiterSetTests {
    @Test(arguments: try Case.load("details.cases"))
    func `a detail is cut off as the table says`(_ expected: Case) throws {
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

    @Test func `without delimiters, no address has a detail`() throws {
        let address = try RecipientAddress(path: "john+x@example.com")
        #expect(DelimiterSet("").isEmpty)
        #expect(DelimiterSet("ö").isEmpty)
        #expect(!DelimiterSet("+").isEmpty)
        #expect(address.withoutDetail(delimiters: DelimiterSet("")) == nil)
    }
}

extension String {
    /// The key as a quoted path.
    var quotedWhereNeeded: String {
        let at = lastIndex(of: "@") ?? endIndex
        let local = self[..<at].map { "\\\"".contains($0) ? "\\\($0)" : String($0) }.joined()
        return "<\"\(local)\"\(self[at...])>"
    }
}
