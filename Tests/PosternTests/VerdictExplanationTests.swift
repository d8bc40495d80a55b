import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RejectionLog
import TestSupport
import Testing

@testable import postern

/// The text of `postern check` on verdicts that follow from the configuration.
@Suite struct VerdictExplanationTests {
    private static let toml = """
        [relay]
        domains = ["example.com", "example.org"]
        [recipients]
        blocked = ["old@example.com", "old@example.org"]
        patterns = [
            { match = "^lst-0", action = "block" },
            { match = "^lst-[0-9]+@", action = "accept" },
        ]
        srs = true
        [[domain]]
        name = "example.org"
        batv = true
        srs = false
        blocked = ["gone"]
        [domain.replies]
        unknown = "550 5.1.10 <{recipient}>: none of {domain}"
        """

    private func explanation(_ address: String, bounce: Bool = false) throws -> VerdictExplanation {
        let folder = try TemporaryFolder()
        let configuration = try Configuration.load(folder.write(Self.toml, as: "postern.toml"))
        var builder = IndexBuilder()
        builder.add("user@example.org", [])
        _ = try builder.publish(to: folder.file("index"), sources: [])
        return VerdictExplanation(
            of: address, client: nil, trust: ClientTrust(isBounce: bounce),
            index: try IndexSnapshot(path: folder.file("index")), policy: configuration.compiledPolicy(),
            senders: LoggedSenders(configuration, isNeeded: false), configuration: configuration)
    }

    private func place(_ explanation: VerdictExplanation) -> [String] {
        explanation.decidedBy.map { setting in
            "\(setting.key) \(setting.place.flatMap { $0.split(separator: ":").last.map(String.init) } ?? "-")"
        }
    }

    @Test func aPatternThatDecidedIsNamedWithItsLine() throws {
        let accepted = try explanation("lst-7@example.com")
        #expect(accepted.reason == "pattern" && accepted.rule == "pattern" && accepted.outcome == .accepted)
        #expect(place(accepted) == ["recipients.patterns[1] 7"])
        #expect(accepted.text.contains("match '^lst-[0-9]+@', action accept"))
        let blocked = try explanation("lst-07@example.com")
        #expect(blocked.reason == "pattern" && blocked.rule == "blocked" && blocked.outcome == .rejected)
        #expect(blocked.explanation == "a pattern blocks this recipient")
        #expect(place(blocked) == ["recipients.patterns[0] 6"])
    }

    @Test func theBlockedListThatHoldsTheRecipientIsNamed() throws {
        #expect(try place(explanation("gone@example.org")) == ["domain[0].blocked 14"])
        #expect(try place(explanation("gone+x@example.org")) == ["domain[0].blocked 14"])
        // The domain has a list of its own, which doesn't hold this recipient.
        #expect(try place(explanation("old@example.org")) == ["recipients.blocked 4"])
        #expect(try place(explanation("old@example.com")) == ["recipients.blocked 4"])
    }

    @Test func theAddressInsideABATVAddressIsJudged() throws {
        let inner = try explanation("prvs=1234abcdef=user+x@example.org")
        #expect(inner.outcome == .accepted && inner.rule == "listed")
        #expect(inner.judgedAs == "user+x@example.org")
        #expect(inner.lookedUp == ["user+x@example.org", "user@example.org"])
        #expect(inner.text.contains("judged as   user+x@example.org (the address inside a BATV one)"))
        let plain = try explanation("prvs=1234abcdef=user@example.com")
        #expect(plain.outcome == .rejected && plain.judgedAs == nil)
    }

    @Test func anSRSAddressIsValidForBouncesOnlyWhereSRSIsOn() throws {
        let address = "SRS0=hhhh=tt=example.net=someone"
        let bounce = try explanation("\(address)@example.com", bounce: true)
        #expect(bounce.reason == "srs" && bounce.rule == "srs")
        #expect(place(bounce) == ["recipients.srs 9"])
        #expect(try explanation("\(address)@example.com").explanation.contains("is valid for bounces only"))
        let off = try explanation("\(address)@example.org", bounce: true)
        #expect(off.reason == "unknown" && off.explanation.contains("recipients.srs isn't set"))
    }

    @Test func theReplyOfTheDomainIsShown() throws {
        #expect(try explanation("nobody@example.org").reply == "550 5.1.10 <nobody@example.org>: none of example.org")
        #expect(try explanation("nobody@example.com").reply?.hasPrefix("550 5.1.1 ") == true)
    }
}
