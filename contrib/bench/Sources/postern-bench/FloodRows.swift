import Foundation
import Glibc

/// Measures refusals at full speed for ten seconds: the cost of the log, and whether it counts all of them.
struct FloodRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(1_000_000, quick: 10_000) }
    private var seconds: Double { plan.isQuick ? 1 : 10 }

    init(plan: Plan) { self.plan = plan }

    func measure() throws -> [Row] {
        let index = Scratch.path("flood.index")
        try Addresses.build(index, recipients)
        let unlogged = try UnloggedFilter(plan, index: index)
        defer { unlogged.child.end() }
        let questions = Questions()
        let load = Load(connections: 16, seconds: seconds)
        var grown: [Double] = []
        var kept: [Double] = []
        let rates = try plan.alternate(
            {
                // At first the log keeps a row of each refusal; later it thins them out.
                let postern = try PosternInstance(plan, sources: "", name: "flood")
                try FileManager.default.copyItem(atPath: index, toPath: "\(postern.folder)/recipients.index")
                try postern.serve()
                defer { postern.stop() }
                try postern.settle()
                let before = try postern.resident().anonymous
                let outcome = try load.run(questions.asked(at: postern.port))
                grown.append((try postern.peakAnonymous() - before) / 1_048_576)
                postern.stop()
                let totals = try postern.report().totals
                guard totals.refused == outcome.count else {
                    throw Failure("\(outcome.count) were refused, and \(totals.refused) are counted")
                }
                kept.append(100 * (1 - Double(totals.thinned) / Double(totals.refused)))
                return outcome.rate
            }, { try load.run(questions.asked(at: unlogged.port)).rate })
        let section = "Flood at the milter socket, 16 connections; reference: Postern without its log"
        return [
            try Row(
                section, "refused RCPT a second", .perSecond, rates.postern, reference: rates.reference,
                goal: .ratioAtLeast(0.9)),
            try Row(
                section, "all of them counted; a second", .perSecond, rates.postern, goal: .atLeast(60_000)),
            try Row(section, "with a row of their own", .percent, Array(kept.dropFirst())),
            try Row(section, "memory more than before", .mebibytes, Array(grown.dropFirst()), goal: .largestAtMost(32)),
        ]
    }
}
