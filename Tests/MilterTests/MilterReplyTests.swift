import TestSupport
import Testing

@testable import Milter

@Suite struct MilterReplyTests {
    private func copied(_ text: [UInt8]) -> [UInt8] {
        var target = [CChar](repeating: 1, count: MilterContext.maximumReplyLength + 1)
        text.withUnsafeBufferPointer { text in
            target.withUnsafeMutableBufferPointer { target in
                guard let start = target.baseAddress else { return }
                MilterContext.copyText(text, to: start)
            }
        }
        return target.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    }

    private func copied(_ text: String) -> String { String(decoding: copied(Array(text.utf8)), as: UTF8.self) }

    @Test func `control characters are replaced and percent signs doubled in a reply`() {
        #expect(copied("") == "")
        #expect(copied("<a@b>: User unknown") == "<a@b>: User unknown")
        #expect(copied("100% of %s") == "100%% of %%s")
        #expect(copied("a\r\nb\0c\td\u{7f}") == "a??b?c?d?")
        #expect(copied("grüße@例え.jp") == "grüße@例え.jp")
    }

    @Test func `a long reply is cut between two characters`() {
        let limit = MilterContext.maximumReplyLength
        #expect(copied(String(repeating: "a", count: limit + 1)) == String(repeating: "a", count: limit))
        #expect(copied(String(repeating: "a", count: limit)) == String(repeating: "a", count: limit))
        let odd = String(repeating: "a", count: limit - 1)
        #expect(copied(odd + "%") == odd)
        #expect(copied(odd + "é") == odd)
        #expect(copied(odd.dropLast() + "é") == odd.dropLast() + "é")
        #expect(copied(odd.dropLast() + "例") == odd.dropLast())
        #expect(copied(odd + "😀") == odd)
    }

    @Test func `a reply made of any bytes is fit for libmilter`() {
        var generator = SeededGenerator.announced("replies")
        for _ in 0..<2_000 {
            let count = Int.random(in: 0...1_200, using: &generator)
            let text = (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next() >> 7) }
            let result = copied(text)
            #expect(result.count <= MilterContext.maximumReplyLength)
            #expect(!result.contains { $0 < 0x20 || $0 == 0x7f })
            let percents = result.split(omittingEmptySubsequences: true) { $0 != UInt8(ascii: "%") }
            #expect(percents.allSatisfy { $0.count.isMultiple(of: 2) })
        }
    }

    @Test(arguments: [
        ("5.1.1", true), ("5.123.456", true), ("5.0.0", true), ("4.1.1", false), ("5.1", false), ("5.1.", false),
        ("5..1", false), ("5.1234.1", false), ("5.1.1.1", false), ("55.1.1", false), ("", false), ("5.1.a", false),
        (".1.1", false), ("5.1.1 ", false), ("5.1.1111111111111111111111", false),
    ])
    func `a malformed enhanced status code is rejected`(_ code: String, _ isOne: Bool) {
        #expect(ReplyCodes.isEnhancedCode(code, ofClass: UInt8(ascii: "5")) == isOne)
    }

    @Test func `only 4xx and 5xx are reply codes`() {
        #expect(ReplyCodes.replyClass("550") == UInt8(ascii: "5"))
        #expect(ReplyCodes.replyClass("421") == UInt8(ascii: "4"))
        for code in ["250", "55", "5500", "5a0", "", "５５０"] { #expect(ReplyCodes.replyClass(code) == nil) }
    }
}
