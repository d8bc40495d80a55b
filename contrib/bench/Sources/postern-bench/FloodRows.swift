import Foundation
import Glibc

/// Refusals as fast as they can be had, for ten seconds: what the log costs, and whether it keeps up.
struct FloodRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(1_000_000, quick: 10_000) }
    private var seconds: Double { plan.isQuick ? 1 : 10 }

    init(plan: Plan) { self.plan = plan }

    func measure() throws -> [Row] {
        let postern = try PosternInstance(plan, sources: "", name: "flood")
        try Addresses.build("\(postern.folder)/recipients.index", recipients)
        try postern.serve()
        defer { postern.stop() }
        let unlogged = try UnloggedFilter(plan, index: "\(postern.folder)/recipients.index")
        defer { unlogged.child.end() }

        var refused = 0
        var grown: [Double] = []
        let rates = try plan.alternate(
            {
                let before = try postern.resident().anonymous
                let outcome = try flood(postern.port)
                refused += outcome.count
                grown.append(try postern.peakAnonymous() - before)
                return outcome.rate
            },
            {
                try postern.settle()
                return try flood(unlogged.port).rate
            })
        postern.stop()
        let totals = try postern.report().totals
        guard totals.refused == refused else {
            throw Failure("\(refused) were refused, and \(totals.refused) are counted")
        }
        Progress.say("  \(refused) refused and counted, \(totals.thinned) of them without a row of their own")
        let section = "Flood at the milter socket, 16 connections; reference: Postern without its log"
        return [
            try Row(
                section, "refused RCPT a second", .perSecond, rates.postern, reference: rates.reference,
                goal: .ratioAtLeast(0.9)),
            try Row(section, "of them, the logged ones", .perSecond, rates.postern, goal: .atLeast(60_000)),
            try Row(
                section, "memory more than before", .mebibytes, grown.map { $0 / 1_048_576 }, goal: .largestAtMost(32)),
        ]
    }

    private func flood(_ port: UInt16) throws -> Load.Outcome {
        try Load(connections: 16, seconds: seconds).run { number in
            let connection = try MilterConnection(port: port)
            let questions = (0..<2_000).map { MilterConnection.question("nobody\(number).\($0)@example.com") }
            var next = 0
            return {
                next = (next + 1) % questions.count
                try connection.ask(questions[next], answers: 1, each: UInt8(ascii: "y"))
            }
        }
    }
}
