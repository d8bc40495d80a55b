import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import TestSupport
import Testing

@Suite struct DamagedIndexTests {
    /// A snapshot with a bit of the third block of its table changed, opened without looking at the table.
    private func snapshot(_ folder: borrowing TemporaryFolder) throws -> IndexSnapshot {
        var builder = IndexBuilder()
        for number in 0..<60_000 { builder.add("\(number)@example.com") }
        try builder.publish(to: folder.file("index"), sources: [])
        var bytes = try Data(contentsOf: URL(fileURLWithPath: folder.file("index")))
        bytes[4096 + 2 * 65536 + 100] ^= 1
        try bytes.write(to: URL(fileURLWithPath: folder.file("index")))
        return try IndexSnapshot(path: folder.file("index"), verification: .onDemand)
    }

    @Test(arguments: [false, true]) func nothingIsSaidOfWhatIsInADamagedPart(catchAll: Bool) throws {
        let folder = try TemporaryFolder()
        let index = try snapshot(folder)
        var settings = Policy.Settings()
        var rules = Policy.Rules()
        rules.catchAll = catchAll
        settings.domains = [("example.com", rules, 0)]
        let policy = Policy(settings)
        var reasons: Set<Reason> = []
        for number in 0..<60_000 {
            let address = try RecipientAddress(path: "\(number)@example.com")
            let verdict = policy.verdict(for: address, client: ClientStanding(), index: index, now: 0)
            reasons.insert(verdict.reason)
            if verdict.reason == .noIndex { #expect(verdict.action == .tempfail) }
        }
        // Until the damage is met, which may be at the first one, all are listed; afterwards nothing is known.
        #expect(reasons.subtracting([.listed]) == [.noIndex] && index.isDamaged)
        let stranger = try RecipientAddress(path: "nobody@example.com")
        #expect(policy.verdict(for: stranger, client: ClientStanding(), index: index, now: 0).reason == .noIndex)
    }

    @Test func namesOfReasons() {
        #expect(
            Reason.allCases.map(\.name) == [
                "syntax", "postmaster", "relay", "trusted", "always", "blocked", "harvest", "no-index", "listed",
                "internal", "disabled", "catch-all", "stale-index", "unknown", "pattern", "srs",
            ])
    }
}
