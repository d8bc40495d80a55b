import Foundation
import Glibc

/// Measures how the cost of a refused RCPT grows with connections, recipients and processors.
struct ScalingRows {
    let plan: Plan
    // Short, so that each refusal has its row: the log keeps 250,000 at once.
    private let seconds = 0.35
    private let questions = Questions()

    init(plan: Plan) { self.plan = plan }

    func measure() throws -> [Row] {
        var rows: [Row] = []
        let section = "Refused RCPT a second at the milter socket; reference: no-op in C"
        let (small, million) = (plan.scaled(10_000, quick: 1_000), plan.scaled(1_000_000, quick: 10_000))
        for connections in [1, 4, 16, 64, 1_000] {
            rows.append(
                try row(section, "\(grouped(connections)) connections", connections: connections, recipients: million))
        }
        let processors = ProcessInfo.processInfo.activeProcessorCount
        for count in Set([1, 2, processors]).sorted() where count <= processors {
            rows.append(
                try row(
                    section, "filter on \(count == 1 ? "1 processor" : "\(count) processors")", recipients: million,
                    processors: count == 1 ? "0" : "0-\(count - 1)"))
        }
        for recipients in [small, small * 10, million, million * 10] {
            rows.append(try row(section, "\(grouped(recipients)) recipients", recipients: recipients))
        }
        return rows
    }

    private func row(
        _ section: String, _ name: String, connections: Int = 16, recipients: Int, processors: String? = nil
    ) throws -> Row {
        Progress.say(" \(name)")
        let postern = try PosternInstance(plan, sources: "", name: "scaling", processors: processors)
        try Addresses.build("\(postern.folder)/recipients.index", recipients)
        try postern.serve()
        defer { postern.stop() }
        let noop = try NoopFilter(plan, processors: processors)
        defer { noop.child.end() }
        let load = Load(connections: connections, seconds: seconds)
        func measure(_ port: UInt16) throws -> Double {
            let rate = try load.run(questions.asked(at: port)).rate
            try postern.settle()
            return rate
        }
        let rates = try plan.alternate(
            times: plan.isQuick ? 1 : 2, { try measure(postern.port) }, { try measure(noop.port) })
        return try Row(section, name, .perSecond, rates.postern, reference: rates.reference)
    }
}
