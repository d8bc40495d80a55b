import Foundation
import RecipientFilter
import TestSupport
import Testing

@Suite struct ReplyTemplateTests {
    @Test func `the replies are those of the table of cases`() throws {
        for (number, line) in try caseLines("replies.cases") {
            let fields = line.components(separatedBy: " | ")
            try #require(fields.count == 3, "replies.cases:\(number)")
            let kind = try #require(ReplyKind(key: fields[0]), "replies.cases:\(number)")
            do {
                _ = try ReplyTemplate(fields[1], for: kind)
                #expect(fields[2] == "ok", "replies.cases:\(number): accepted")
            } catch {
                #expect(error.description.contains(fields[2]), "replies.cases:\(number): \(error)")
            }
        }
    }

    @Test func lineBreaksAndLengthAreRefused() {
        #expect(throws: ReplyTemplateError.self) {
            try ReplyTemplate("550 5.1.1 one\r\n250 two", for: .unknown)
        }
        #expect(throws: ReplyTemplateError.self) {
            try ReplyTemplate("550 5.1.1 \(String(repeating: "x", count: 400))", for: .unknown)
        }
    }

    @Test(arguments: ReplyKind.allCases) func defaultsAreSound(_ kind: ReplyKind) throws {
        let template = try ReplyTemplate(kind.defaultText, for: kind)
        #expect(template.code.hasPrefix(kind.isTemporary ? "4" : "5"))
    }

    @Test func placeholdersAreFilledIn() throws {
        let template = try ReplyTemplate("550 5.1.1 <{recipient}> at {domain} for {client}.", for: .unknown)
        #expect(
            template.text(recipient: "a@example.com", domain: "example.com", client: "192.0.2.1")
                == "550 5.1.1 <a@example.com> at example.com for 192.0.2.1.")
    }
}
