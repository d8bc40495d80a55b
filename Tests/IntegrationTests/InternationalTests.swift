import Foundation
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct InternationalTests {
        /// The text with `{u+308}` as the character that it stands for.
        private static func unescaped(_ text: String) -> String {
            text.replacing(/\{u\+([0-9a-f]+)\}/) { match in
                UInt32(match.1, radix: 16).flatMap(UnicodeScalar.init).map { String(Character($0)) } ?? ""
            }
        }

        @Test("U-labels and A-labels name the same domain; local parts in UTF-8 are compared case-folded")
        func recipients() throws {
            let filter = try LoneFilter {
                $0.values["relay.domains"] = "[\"bücher.example\", \"example.com\", \"xn--fsqu00a.xn--0zwm56d\"]"
                try $0.list(["grün@bücher.example", "anna@xn--bcher-kva.example", "straße@example.com", "例@例子.测试"])
            }
            let connection = try filter.connection()
            var count = 0
            for line in try caseFields("international.cases") {
                #expect(try connection.answer(Self.unescaped(line[0])) == line[1], "\(line)")
                count += 1
            }
            #expect(count >= 19)
            // The reply is in ASCII: only who asked for SMTPUTF8 could be sent anything else.
            let reply = try connection.recipient("<grün.x@bücher.example>")
            #expect(reply.text == "550 5.1.1 <gr??n.x@b??cher.example>: Recipient address rejected: User unknown")
            #expect(filter.postern.stop() == .exited(0))
            let log = try filter.configuration.run(["log", "--since", "1h"])
            #expect(log.output.contains("to=<grün.x@bücher.example>"), "\(log.output)")
        }
    }
}
