import Foundation
import Glibc

/// Measures refused RCPTs: at the milter socket, through Postfix and through Sendmail.
struct FilterRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(1_000_000, quick: 10_000) }
    private var seconds: Double { plan.isQuick ? 0.5 : 1 }
    /// How often a rate is measured in a round.
    private var times: Int { plan.isQuick ? 1 : 5 }

    init(plan: Plan) { self.plan = plan }

    /// A Postern that serves a list without names that begin with `nobody`.
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

    /// A measurement of a filter at the socket.
    private struct Measurement {
        let outcome: Load.Outcome
        /// Seconds of processor time that the filter used for each answer, its work after the last one included.
        let part: Double
    }

    /// The measurements of both sides, in order.
    private typealias Sides = (postern: [Measurement], reference: [Measurement])

    /// At the socket, on 16 connections: while the log keeps a row of each refusal, and in a long flood.
    func socket() throws -> [Row] {
        let noop = try NoopFilter(plan)
        defer { noop.child.end() }
        let index = Scratch.path("socket.index")
        try Addresses.build(index, recipients)
        let questions = Questions()
        let load = Load(connections: 16, seconds: seconds)
        func measure(
            _ port: UInt16, _ postern: PosternInstance, _ processor: () throws -> Double
        ) throws -> Measurement {
            let before = try processor()
            let outcome = try load.run(questions.asked(at: port))
            // Work that it does later belongs to this measurement, not to the next one.
            try postern.settle()
            return Measurement(outcome: outcome, part: (try processor() - before) / Double(outcome.count))
        }
        func sides(_ plan: Plan, times: Int, _ postern: PosternInstance) throws -> Sides {
            try plan.alternate(
                times: times, by: \.outcome.rate,
                { try measure(postern.port, postern, postern.processorSeconds) },
                { try measure(noop.port, postern, noop.child.processorSeconds) })
        }
        func serving() throws -> PosternInstance {
            let postern = try PosternInstance(plan, sources: "", name: "socket")
            try FileManager.default.copyItem(atPath: index, toPath: "\(postern.folder)/recipients.index")
            try postern.serve()
            return postern
        }

        // A log keeps 250,000 rows at once: those of a few seconds.
        var kept: Sides = ([], [])
        var once = plan
        once.rounds = 1
        for _ in 0..<plan.rounds {
            let postern = try serving()
            defer { postern.stop() }
            let values = try sides(once, times: plan.isQuick ? 1 : 3, postern)
            kept.postern += values.postern
            kept.reference += values.reference
        }
        let postern = try serving()
        defer { postern.stop() }
        if !plan.isQuick { _ = try Load(connections: 16, seconds: 8).run(questions.asked(at: postern.port)) }
        try postern.settle()
        let flooded = try sides(plan, times: times, postern)

        func rows(_ name: String, _ sides: Sides) throws -> [Row] {
            let section = "At the milter socket, 16 connections, \(grouped(recipients)), \(name); reference: no-op in C"
            func row(
                _ name: String, _ unit: Row.Unit, _ figure: KeyPath<Measurement, Double>, _ goal: Row.Goal? = nil
            ) throws -> Row {
                try Row(
                    section, name, unit, sides.postern.map { $0[keyPath: figure] },
                    reference: sides.reference.map { $0[keyPath: figure] }, goal: goal)
            }
            return [
                try row("refused RCPT a second", .perSecond, \.outcome.rate, .ratioAtLeast(0.95)),
                try row("99th percentile", .seconds, \.outcome.percentile99, .ratioAtMost(1.15)),
                try row("processors for each", .seconds, \.outcome.busy),
                try row("the filter's part, log caught up", .seconds, \.part),
            ]
        }
        return try rows("a row for each", kept) + rows("in a flood", flooded)
    }

    /// Through a Postfix, 8 sessions, beside Postfix's own tables.
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

        var outcomes = [[Load.Outcome]](repeating: [], count: sides.count)
        let load = Load(connections: 8, seconds: seconds)
        for round in 0...plan.rounds * times {
            for place in sides.indices {
                let side = (place + round) % sides.count
                let port = sides[side].postfix.port
                let outcome = try Self.refusals(load, port)
                try postern.settle()
                // The first round only warms up.
                if round > 0 { outcomes[side].append(outcome) }
            }
            if round > 0 {
                let rates = outcomes.map { Table.number($0.last?.rate ?? 0) }
                Progress.say("  \(round): " + rates.joined(separator: ", "))
            }
        }
        let section = "Refused RCPT a second through Postfix, 8 sessions, \(grouped(recipients)) recipients"
        return try sides.indices.dropFirst().flatMap { place in
            let (side, ours, theirs) = (sides[place], outcomes[0], outcomes[place])
            return [
                try Row(
                    section, side.name, .perSecond, ours.map(\.rate), reference: theirs.map(\.rate),
                    goal: side.goal.map { .ratioAtLeast($0) }),
                try Row(
                    section, "processors for each, \(side.short)", .seconds, ours.map(\.busy),
                    reference: theirs.map(\.busy)),
                try Row(
                    section, "switches for each, \(side.short)", .count, ours.map(\.switches),
                    reference: theirs.map(\.switches)),
            ]
        }
    }

    /// Through a Sendmail, 8 sessions, over unix sockets: over TCP its small writes would wait for acknowledgements.
    func sendmail() throws -> [Row] {
        // Sendmail uses no socket below a folder that everybody may write to, such as /tmp.
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
        func refusals(_ sendmail: Sendmail) throws -> Load.Outcome {
            let outcome = try Self.refusals(load, sendmail.port)
            try postern.settle()
            return outcome
        }
        let outcomes = try plan.alternate(times: times, by: \.rate, { try refusals(ours) }, { try refusals(theirs) })
        let section = "Refused RCPT a second through Sendmail, 8 sessions, \(grouped(recipients)) recipients"
        return [
            try Row(
                section, "no-op filter in C", .perSecond, outcomes.postern.map(\.rate),
                reference: outcomes.reference.map(\.rate), goal: .ratioAtLeast(0.97)),
            try Row(
                section, "processors for each", .seconds, outcomes.postern.map(\.busy),
                reference: outcomes.reference.map(\.busy)),
        ]
    }

    /// Sends RCPT TO for recipients that the MTA rejects.
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

    /// Measures `postern check --batch` against `postmap -q -`.
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
        // Each address once, in mixed order.
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
