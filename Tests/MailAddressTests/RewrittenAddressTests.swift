import TestSupport
import Testing

@testable import MailAddress

struct RewrittenAddressTests {
    @Test(arguments: try Case.load("rewritten.cases"))
    func `BATV and SRS addresses are recognized as the table says`(_ expected: Case) throws {
        let address = try expected.input.withUnsafeBufferPointer { try RecipientAddress(path: $0) }
        let inner = address.withoutBounceTag
        switch String(decoding: expected.expected, as: UTF8.self) {
        case "plain": #expect(inner == nil && !address.isForwardersOwn, "\(expected.testDescription)")
        case "srs": #expect(inner == nil && address.isForwardersOwn, "\(expected.testDescription)")
        default:
            #expect(inner.map(ParsedPath.init) == ParsedPath(expecting: expected), "\(expected.testDescription)")
            #expect(!address.isForwardersOwn)
        }
    }

    @Test(arguments: [21, 22] as [UInt64])
    func `an address without its tag is valid, whatever surrounds the tag`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let pieces = [
            "prvs=", "1234abcdef", "=", "btv1==", "==", "srs0", "srs1", "+", "-", "hhh", "tt", "example.org", "u", "ä",
        ]
        var found = 0
        for _ in 0..<50_000 {
            let count = Int.random(in: 1...9, using: &random)
            let local = (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            guard let address = try? RecipientAddress(path: "\(local)@example.com") else { continue }
            if let inner = address.withoutBounceTag {
                found += 1
                #expect(address.localPart.hasSuffix(inner.localPart) && !inner.localPart.isEmpty, "\(local)")
                #expect(inner.domain == "example.com", "\(local)")
                #expect(try RecipientAddress(path: inner.key) == inner, "\(local)")
            }
            if address.isForwardersOwn { found += 1 }
        }
        #expect(found > 20)
    }
}
