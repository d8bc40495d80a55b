import Foundation
import Synchronization
import TestSupport
import Testing

@testable import RecipientFilter

@Suite struct TarpitTests {
    private func settings(_ milliseconds: Int, limit: Int = 50) -> Policy.Harvest {
        var harvest = Policy.Harvest()
        harvest.tarpit = milliseconds
        harvest.tarpitLimit = limit
        return harvest
    }

    @Test func holdsForTheTimeGiven() {
        let tarpit = Tarpit()
        let start = ContinuousClock.now
        tarpit.hold(settings(150))
        #expect(ContinuousClock.now - start >= .milliseconds(150))
        #expect(tarpit.held == 0)
    }

    @Test func letGoReleasesAllRepliesAndHoldsNoMore() {
        let tarpit = Tarpit()
        let gone = Atomic<Int>(0)
        onThreads(5) { index in
            guard index == 4 else {
                tarpit.hold(settings(3_600_000))
                gone.add(1, ordering: .relaxed)
                return
            }
            while tarpit.held < 4 { usleep(1_000) }
            #expect(gone.load(ordering: .relaxed) == 0)
            tarpit.letGo()
        }
        #expect(gone.load(ordering: .relaxed) == 4)
        tarpit.hold(settings(3_600_000))
        #expect(tarpit.held == 0)
        tarpit.letGo()
    }

    @Test func repliesBeyondTheLimitAreNotHeld() {
        let tarpit = Tarpit()
        let held = settings(3_600_000, limit: 2)
        onThreads(3) { index in
            guard index == 2 else {
                tarpit.hold(held)
                return
            }
            while tarpit.held < 2 { usleep(1_000) }
            // Returns at once, or never.
            tarpit.hold(held)
            #expect(tarpit.held == 2)
            tarpit.letGo()
        }
    }

    @Test func `with a tarpit of zero no reply is delayed`() {
        let tarpit = Tarpit()
        for _ in 0..<1_000 { tarpit.hold(settings(0)) }
        #expect(tarpit.held == 0)
    }
}
