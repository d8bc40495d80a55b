import Foundation
import Glibc

/// A filter's part in a RCPT that is refused.
struct FilterRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(1_000_000, quick: 10_000) }
    private var seconds: Double { plan.isQuick ? 0.5 : 1 }
    /// How often a rate is taken in a round.
    private var times: Int { plan.isQuick ? 1 : 5 }

    init(plan: Plan) { self.plan = plan }

    /// A Postern that serves a list; nobody whose name begins with `nobody` is in it.
    private func postern() throws -> PosternInstance {
        let list = try Self.list(recipients)
        let postern = try PosternInstance(
            plan, sources: "[[source]]\nname = \"list\"\ntype = \"file\"\nformat = \"list\"\npath = \"\(list)\"")
        try postern.sync()
        try postern.serve()
        return postern
    }

    private static func list(_ count: Int) throws -> String {
        let path = Scratch.path("recipients.list")
        try Scratch.write(to: path, count: count) { "person\($0)@example.com\n" }
        return path
    }

    /// One side's values, in the order in which they were measured.
    private struct Side {
        var rates: [Double] = []
        var late: [Double] = []
        var busy: [Double] = []
        var switches: [Double] = []
        var part: [Double] = []

        /// - Parameter part: seconds of the processor that the filter has taken, also after the last answer.
        mutating func add(_ outcome: Load.Outcome, part: Double) {
            rates.append(outcome.rate)
            late.append(outcome.percentile99)
            busy.append(outcome.busy)
            switches.append(outcome.switches)
            self.part.append(part / Double(outcome.count))
        }

        /// Without the first value, which has warmed up.
        var warm: Side {
            var side = self
            for list in [\Side.rates, \.late, \.busy, \.switches, \.part] { side[keyPath: list].removeFirst() }
            return side
        }

        static func += (side: inout Side, other: Side) {
            for list in [\Side.rates, \.late, \.busy, \.switches, \.part] {
                side[keyPath: list] += other[keyPath: list]
            }
        }
    }

    /// Straight at the socket, on 16 connections: while the log keeps a row of each refusal, and in a flood that lasts.
    func socket() throws -> [Row] {
        let noop = try NoopFilter(plan)
        defer { noop.child.end() }
        let index = Scratch.path("socket.index")
        try Addresses.build(index, recipients)
        let questions = Questions()
        let load = Load(connections: 16, seconds: seconds)
        func measure(_ port: UInt16, _ postern: PosternInstance, _ processor: () throws -> Double) throws -> (
            Load.Outcome, Double
        ) {
            let before = try processor()
            let outcome = try load.run(questions.asked(at: port))
            // What it has put off belongs to it, and not to what is measured next.
            try postern.settle()
            return (outcome, try processor() - before)
        }
        func sides(_ plan: Plan, times: Int, _ postern: PosternInstance) throws -> (postern: Side, noop: Side) {
            var sides = (postern: Side(), noop: Side())
            _ = try plan.alternate(
                times: times,
                {
                    let (outcome, part) = try measure(postern.port, postern, postern.processorSeconds)
                    sides.postern.add(outcome, part: part)
                    return outcome.rate
                },
                {
                    let (outcome, part) = try measure(noop.port, postern, noop.child.processorSeconds)
                    sides.noop.add(outcome, part: part)
                    return outcome.rate
                })
            return (sides.postern.warm, sides.noop.warm)
        }
        func serving() throws -> PosternInstance {
            let postern = try PosternInstance(plan, sources: "", name: "socket")
            try FileManager.default.copyItem(atPath: index, toPath: "\(postern.folder)/recipients.index")
            try postern.serve()
            return postern
        }

        // A log keeps 250,000 rows at once: a few seconds' worth.
        var kept = (postern: Side(), noop: Side())
        var once = plan
        once.rounds = 1
        for _ in 0..<plan.rounds {
            let postern = try serving()
            defer { postern.stop() }
            let values = try sides(once, times: plan.isQuick ? 1 : 3, postern)
            kept.postern += values.postern
            kept.noop += values.noop
        }
        let postern = try serving()
        defer { postern.stop() }
        if !plan.isQuick { _ = try Load(connections: 16, seconds: 8).run(questions.asked(at: postern.port)) }
        try postern.settle()
        let flooded = try sides(plan, times: times, postern)

        func rows(_ name: String, _ values: (postern: Side, noop: Side)) throws -> [Row] {
            let section = "At the milter socket, 16 connections, \(grouped(recipients)), \(name); reference: no-op in C"
            func row(_ name: String, _ unit: Row.Unit, _ list: KeyPath<Side, [Double]>, _ goal: Row.Goal? = nil) throws
                -> Row
            {
                try Row(
                    section, name, unit, values.postern[keyPath: list], reference: values.noop[keyPath: list],
                    goal: goal)
            }
            return [
                try row("refused RCPT a second", .perSecond, \.rates, .ratioAtLeast(0.95)),
                try row("99th percentile", .seconds, \.late, .ratioAtMost(1.15)),
                try row("processors for each", .seconds, \.busy),
                try row("the filter's part, log caught up", .seconds, \.part),
            ]
        }
        return try rows("a row for each", kept) + rows("in a flood", flooded)
    }

    /// Through a Postfix, 8 sessions, beside the ways without Postern.
    func postfix() throws -> [Row] {
        let postern = try postern()
        defer { postern.stop() }
        let noop = try NoopFilter(plan)
        defer { noop.child.end() }
        let unlogged = try UnloggedFilter(plan, index: "\(postern.folder)/recipients.index")
        defer { unlogged.child.end() }
        let table = Scratch.path("relay_recipients")
        try Scratch.write(to: table, count: recipients) { "person\($0)@example.com OK\n" }
        try Scratch.write("compatibility_level = 3.6\nlmdb_map_size = 1073741824\n", to: Scratch.path("main.cf"))
        try Child.run("/usr/sbin/postmap", ["-c", Scratch.root, "lmdb:\(table)"])
        var sides: [(name: String, short: String, goal: Double?, postfix: Postfix)] = []
        defer { for side in sides { side.postfix.stop() } }
        func add(_ name: String, _ short: String, _ goal: Double?, _ settings: [String: String]) throws {
            sides.append((name, short, goal, try Postfix(settings, name: "postfix\(sides.count)")))
        }
        try add("Postern", "", nil, ["smtpd_milters": "inet:127.0.0.1:\(postern.port)"])
        try add("Postern without its log", "no log", nil, ["smtpd_milters": "inet:127.0.0.1:\(unlogged.port)"])
        try add("no-op filter in C", "no-op", 0.97, ["smtpd_milters": "inet:127.0.0.1:\(noop.port)"])
        try add("lmdb: relay_recipient_maps", "lmdb:", 0.75, ["relay_recipient_maps": "lmdb:\(table)"])
        let slapd = try Slapd(people: recipients)
        defer { slapd.stop() }
        let map = try Scratch.write(
            """
            server_host = \(slapd.uri)
            version = 3
            search_base = \(Slapd.base)
            query_filter = mail=%s
            result_attribute = mail
            bind = yes
            bind_dn = \(Slapd.bindDN)
            bind_pw = \(Slapd.password)

            """, to: Scratch.path("recipients.ldap"))
        try add("ldap: relay_recipient_maps", "ldap:", 2, ["relay_recipient_maps": "ldap:\(map)"])

        var values = [Side](repeating: Side(), count: sides.count)
        let load = Load(connections: 8, seconds: seconds)
        for round in 0...plan.rounds * times {
            for place in sides.indices {
                let side = (place + round) % sides.count
                let port = sides[side].postfix.port
                let outcome = try Self.refusals(load, port)
                try postern.settle()
                values[side].add(outcome, part: 0)
            }
            if round > 0 {
                Progress.say(
                    "  \(round): " + values.map { Table.number($0.rates.last ?? 0) }.joined(separator: ", "))
            }
        }
        values = values.map(\.warm)
        let section = "Refused RCPT a second through Postfix, 8 sessions, \(grouped(recipients)) recipients"
        return try sides.indices.dropFirst().flatMap { place in
            let (side, ours, theirs) = (sides[place], values[0], values[place])
            return [
                try Row(
                    section, side.name, .perSecond, ours.rates, reference: theirs.rates,
                    goal: side.goal.map { .ratioAtLeast($0) }),
                try Row(section, "processors for each, \(side.short)", .seconds, ours.busy, reference: theirs.busy),
                try Row(
                    section, "switches for each, \(side.short)", .count, ours.switches, reference: theirs.switches),
            ]
        }
    }

    /// Through a Sendmail, 8 sessions, over unix sockets: over TCP its small writes wait for acknowledgements.
    func sendmail() throws -> [Row] {
        // Sendmail takes no socket from below a folder like /tmp, that all may write to.
        let folder = Scratch.sockets
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let postern = try PosternInstance(plan, sources: "", name: "behind-sendmail", socket: "\(folder)/postern")
        try Addresses.build("\(postern.folder)/recipients.index", recipients)
        try postern.serve()
        defer { postern.stop() }
        let noop = try NoopFilter(plan, socket: "\(folder)/noop")
        defer { noop.child.end() }
        let ours = try Sendmail(plan, socket: "\(folder)/postern", name: "sendmail0")
        defer { ours.stop() }
        let theirs = try Sendmail(plan, socket: "\(folder)/noop", name: "sendmail1")
        defer { theirs.stop() }
        let load = Load(connections: 8, seconds: seconds)
        var sides = (postern: Side(), noop: Side())
        func rate(_ sendmail: Sendmail, _ side: inout Side) throws -> Double {
            let outcome = try Self.refusals(load, sendmail.port)
            try postern.settle()
            side.add(outcome, part: 0)
            return outcome.rate
        }
        _ = try plan.alternate(times: times, { try rate(ours, &sides.postern) }, { try rate(theirs, &sides.noop) })
        let section = "Refused RCPT a second through Sendmail, 8 sessions, \(grouped(recipients)) recipients"
        let values = (postern: sides.postern.warm, noop: sides.noop.warm)
        return [
            try Row(
                section, "no-op filter in C", .perSecond, values.postern.rates, reference: values.noop.rates,
                goal: .ratioAtLeast(0.97)),
            try Row(
                section, "processors for each", .seconds, values.postern.busy, reference: values.noop.busy),
        ]
    }

    /// Recipients that an MTA refuses.
    private static func refusals(_ load: Load, _ port: UInt16) throws -> Load.Outcome {
        try load.run { number in
            let session = try SMTPSession(port: port)
            var next = Int.random(in: 0..<10_000)
            return {
                next += 1
                let code = try session.ask("nobody\(number).\(next % 10_000)@example.com")
                guard code == 550 else { throw Failure("a recipient was answered with \(code)") }
            }
        }
    }

    /// Many addresses at once.
    func batch() throws -> [Row] {
        let postern = try PosternInstance(
            plan,
            sources: """
                [[source]]
                name = "list"
                type = "file"
                format = "list"
                path = "\(try Self.list(recipients))"
                """)
        try postern.sync()
        let table = Scratch.path("relay_recipients")
        try Scratch.write(to: table, count: recipients) { "person\($0)@example.com OK\n" }
        try Scratch.write("compatibility_level = 3.6\nlmdb_map_size = 1073741824\n", to: Scratch.path("main.cf"))
        try Child.run("/usr/sbin/postmap", ["-c", Scratch.root, "lmdb:\(table)"])
        // Each once, in no order.
        let questions = Scratch.path("questions")
        let count = recipients
        try Scratch.write(to: questions, count: count) { "person\($0 &* 7_919 % count)@example.com\n" }
        let times = try plan.alternate(
            { try postern.check(questions).seconds },
            {
                try Child.run(
                    "/usr/sbin/postmap", ["-c", Scratch.root, "-q", "-", "lmdb:\(table)"], input: questions
                ).seconds
            })
        return [
            try Row(
                "postern check --batch; reference: postmap -q - on lmdb", "\(grouped(count)) addresses", .seconds,
                times.postern, reference: times.reference, goal: .ratioAtMost(0.2))
        ]
    }
}
