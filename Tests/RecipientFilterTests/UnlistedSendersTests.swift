import Foundation
import MailAddress
import RecipientIndex
import Synchronization
import TestSupport
import Testing

@testable import RecipientFilter

/// Senders through the gateway that the index doesn't list.
@Suite struct UnlistedSendersTests {
    private func address(_ text: String) throws -> RecipientAddress { try RecipientAddress(path: text) }

    @Test func addressesCountForThirtyDaysAfterTheyLastSent() throws {
        let senders = UnlistedSenders()
        let joe = try address("joe@example.com")
        #expect(!senders.contains(joe) && senders.count == 0)
        senders.insert("joe@example.com", day: 20_000)
        senders.insert("joe@example.com", day: 19_990)
        // Until the date is set, no address is too old.
        #expect(senders.contains(joe) && senders.count == 1)
        senders.setToday(20_030)
        #expect(senders.contains(joe))
        senders.setToday(20_031)
        #expect(!senders.contains(joe) && senders.count == 0)
        senders.insert("joe@example.com", day: 20_031)
        #expect(senders.contains(joe) && senders.count == 1)
    }

    @Test func newAddressesReplaceTheOldestOnes() throws {
        let senders = UnlistedSenders()
        for number in 0..<200_000 { senders.insert("u\(number)@example.com", day: Int64(10_000 + number / 1_000)) }
        #expect(senders.count <= 32_768 && senders.count > 30_000)
        for number in 199_000..<200_000 { #expect(senders.contains(try address("u\(number)@example.com"))) }
        #expect(!senders.contains(try address("u1@example.com")))
    }

    @Test func manyThreadsWriteAndReadAtOnce() throws {
        let senders = UnlistedSenders()
        let missing = Atomic<Int>(0)
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            for number in 0..<1_000 {
                let key = "t\(number)@example.com"
                senders.insert(key, day: Int64(20_000 + thread))
                if let address = try? RecipientAddress(path: key), !senders.contains(address) {
                    missing.add(1, ordering: .relaxed)
                }
            }
        }
        #expect(missing.load(ordering: .relaxed) == 0)
        #expect(senders.count == 1_000)
    }

    /// The mailbox that must exist because the sender has sent mail, or nil.
    @Test(arguments: [
        ("joe@example.com", "joe@example.com"), ("Joe@Example.COM", "joe@example.com"),
        ("joe+lists@example.com", "joe@example.com"), ("prvs=1234abcdef=joe@example.com", "joe@example.com"),
        ("list-bounces+ann=example.net@example.com", "list-bounces@example.com"),
        ("list-return-12-ann=example.net@example.com", "list-return-12@example.com"),
        ("news-1027-77123@example.com", "news@example.com"),
        ("srs0=hash=TT=example.com=joe@example.org", "joe@example.com"),
        // A sender in an alias domain proves the same mailbox in the target domain.
        ("joe+x@alias.example", "joe@example.com"), ("user@alias.example", nil),
        // The index lists these, in one form or another.
        ("user@example.com", nil), ("user+tag@example.com", nil), ("prvs=1234abcdef=user@example.com", nil),
        ("user-bounces-ann=example.net@example.com", nil), ("user+ann=example.net@example.com", nil),
        ("user-7712377123@example.com", nil), ("srs0=hash=TT=example.com=user@example.org", nil),
        ("gone@example.com", nil), ("moved@example.com", nil),
        // A foreign domain, always accepted, blocked, matched by a pattern, in a catch-all domain, not a mailbox.
        ("joe@foreign.example", nil), ("srs0=hash=TT=foreign.example=joe@example.com", nil),
        ("postmaster@example.com", nil), ("blocked@example.com", nil), ("lst-1@example.com", nil),
        ("anybody@all.example", nil), ("joe%elsewhere@example.com", nil), ("joe@sub.example.com", nil),
    ])
    func mailboxOfASender(sender: String, mailbox: String?) throws {
        let folder = try TemporaryFolder()
        let index = try folder.snapshot([
            ("user@example.com", []), ("gone@example.com", .disabled), ("moved@example.com", .leaving),
            ("@all.example", .catchAll),
        ])
        var settings = Policy.Settings()
        settings.indexExpected = true
        settings.blocked = ["blocked@example.com"]
        settings.patterns = [try RecipientPattern("^lst-", action: .accept)]
        for name in ["example.com", "example.org", "all.example"] {
            settings.addDomain(name)
        }
        var alias = DomainSettings()
        alias.aliasOf = "example.com"
        settings.addDomain("alias.example", alias)
        let found = Policy(settings).unlistedMailbox(of: try address(sender), index: index, now: 1_800_000_000)
        #expect(found?.key == mailbox, "\(sender)")
    }

    @Test func mailboxIsKnownInAllDomainsOfAnAliasChain() throws {
        let folder = try TemporaryFolder()
        let index = try folder.snapshot([("user@example.com", [])])
        var rules = DomainSettings()
        rules.defersUnlistedSenders = true
        var alias = rules
        alias.aliasOf = "example.com"
        var settings = Policy.Settings()
        settings.addDomain("example.com", rules)
        settings.addDomain("alias.example", alias)
        let policy = Policy(settings)
        let senders = UnlistedSenders()
        senders.insert("joe@example.com", day: 20_000)
        for (recipient, reason) in [
            ("joe@example.com", Reason.unlistedSender), ("joe+x@alias.example", .unlistedSender),
            ("ann@alias.example", .unknown), ("user@alias.example", .listed),
        ] {
            let verdict = policy.verdict(
                for: try address(recipient), client: ClientTrust(), index: index, senders: senders,
                now: 1_800_000_000)
            #expect(verdict.reason == reason, "\(recipient)")
        }
    }
}
