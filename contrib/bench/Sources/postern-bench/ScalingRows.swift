import Foundation
import Glibc

/// How the cost of a refused RCPT grows with connections, recipients and processors.
struct ScalingRows {
    let plan: Plan
    private var seconds: Double { plan.isQuick ? 0.3 : 1 }

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
            try load.run { number in
                let connection = try MilterConnection(port: port)
                let questions = (0..<200).map { MilterConnection.question("nobody\(number).\($0)@example.com") }
                var next = 0
                return {
                    next = (next + 1) % questions.count
                    try connection.ask(questions[next], answers: 1, each: UInt8(ascii: "y"))
                }
            }.rate
        }
        let rates = try plan.alternate(
            times: plan.isQuick ? 1 : 3,
            { try measure(postern.port) },
            {
                try postern.settle()
                return try measure(noop.port)
            })
        return try Row(section, name, .perSecond, rates.postern, reference: rates.reference)
    }
}
