import RecipientIndex
import Testing

@Suite struct RecipientFlagsTests {
    @Test func `a key of two sources is open to a client if either source allows it`() throws {
        for (line, fields) in try CaseFile("RecipientFlags", fields: 3).lines {
            let flags = fields.compactMap(UInt8.init).map(RecipientFlags.init(rawValue:))
            try #require(flags.count == 3)
            #expect(flags[0].merged(with: flags[1]) == flags[2], "RecipientFlags.cases:\(line)")
            #expect(flags[1].merged(with: flags[0]) == flags[2], "RecipientFlags.cases:\(line), the other way round")
        }
    }

    @Test func `the order of merging doesn't matter`() {
        let all = (0..<16).map(RecipientFlags.init(rawValue:))
        for a in all {
            for b in all {
                for c in all { #expect(a.merged(with: b).merged(with: c) == a.merged(with: b.merged(with: c))) }
            }
        }
    }
}
