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

    /// Straight at the socket, on 16 connections.
    func socket() throws -> [Row] {
        let postern = try postern()
        defer { postern.stop() }
        let noop = try NoopFilter(plan)
        defer { noop.child.end() }
        let load = Load(connections: 16, seconds: seconds)
        func measure(_ port: UInt16) throws -> Load.Outcome {
            try load.run { number in
                let connection = try MilterConnection(port: port)
                let questions = (0..<1_000).map { MilterConnection.question("nobody\(number).\($0)@example.com") }
                var next = 0
                return {
                    next = (next + 1) % questions.count
                    try connection.ask(questions[next], answers: 1, each: UInt8(ascii: "y"))
                }
            }
        }
        struct Side {
            var late: [Double] = []
            var processor: [Double] = []
            var busy: [Double] = []
        }
        var sides: (postern: Side, noop: Side) = (Side(), Side())
        func measure(_ port: UInt16, _ side: inout Side, _ processor: () throws -> Double) throws -> Double {
            let before = try processor()
            let outcome = try measure(port)
            side.processor.append((try processor() - before) / Double(outcome.count))
            side.late.append(outcome.percentile99)
            side.busy.append(outcome.busy)
            return outcome.rate
        }
        let rates = try plan.alternate(
            times: times,
            { try measure(postern.port, &sides.postern, postern.processorSeconds) },
            {
                try postern.settle()
                return try measure(noop.port, &sides.noop, noop.child.processorSeconds)
            })
        let section = "At the milter socket, 16 connections, \(grouped(recipients)); reference: no-op in C"
        // The first has warmed up.
        func values(_ path: KeyPath<Side, [Double]>) -> (postern: [Double], noop: [Double]) {
            (Array(sides.postern[keyPath: path].dropFirst()), Array(sides.noop[keyPath: path].dropFirst()))
        }
        let (late, processor, busy) = (values(\.late), values(\.processor), values(\.busy))
        return [
            try Row(
                section, "refused RCPT a second", .perSecond, rates.postern, reference: rates.reference,
                goal: .ratioAtLeast(0.95)),
            try Row(
                section, "99th percentile", .seconds, late.postern, reference: late.noop, goal: .ratioAtMost(1.15)),
            // What else the machine does matters least here.
            try Row(section, "  processors for each", .seconds, busy.postern, reference: busy.noop),
            try Row(section, "  the filter's part", .seconds, processor.postern, reference: processor.noop),
        ]
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
        var sides: [(name: String, goal: Double?, postfix: Postfix)] = []
        defer { for side in sides { side.postfix.stop() } }
        func add(_ name: String, _ goal: Double?, _ settings: [String: String]) throws {
            sides.append((name, goal, try Postfix(settings, name: "postfix\(sides.count)")))
        }
        try add("Postern", nil, ["smtpd_milters": "inet:127.0.0.1:\(postern.port)"])
        try add("Postern without its log", nil, ["smtpd_milters": "inet:127.0.0.1:\(unlogged.port)"])
        try add("no-op filter in C", 0.97, ["smtpd_milters": "inet:127.0.0.1:\(noop.port)"])
        try add("lmdb: relay_recipient_maps", 0.75, ["relay_recipient_maps": "lmdb:\(table)"])
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
        try add("ldap: relay_recipient_maps", 2, ["relay_recipient_maps": "ldap:\(map)"])

        var rates = [[Double]](repeating: [], count: sides.count)
        var busy = rates
        var switches = rates
        let load = Load(connections: 8, seconds: seconds)
        for round in 0...plan.rounds * times {
            for place in sides.indices {
                let side = (place + round) % sides.count
                let port = sides[side].postfix.port
                try postern.settle()
                let outcome = try Self.refusals(load, port)
                if round == 0 { continue }
                rates[side].append(outcome.rate)
                busy[side].append(outcome.busy)
                switches[side].append(outcome.switches)
            }
            if round > 0 {
                Progress.say(
                    "  \(round): " + rates.map { Table.number($0.last ?? 0) }.joined(separator: ", "))
            }
        }
        let section = "Refused RCPT a second through Postfix, 8 sessions, \(grouped(recipients)) recipients"
        return try sides.indices.dropFirst().flatMap { side in
            [
                try Row(
                    section, sides[side].name, .perSecond, rates[0], reference: rates[side],
                    goal: sides[side].goal.map { .ratioAtLeast($0) }),
                try Row(section, "  processors for each", .seconds, busy[0], reference: busy[side]),
                try Row(section, "  context switches for each", .count, switches[0], reference: switches[side]),
            ]
        }
    }

    /// Through a Sendmail, 8 sessions, over unix sockets: over TCP its small writes wait for acknowledgements.
    func sendmail() throws -> [Row] {
        // Sendmail takes no socket from below a folder like /tmp, that all may write to.
        let folder = "/run/postern-bench.\(getpid())"
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
        var busy: (postern: [Double], noop: [Double]) = ([], [])
        func rate(_ sendmail: Sendmail, _ busy: inout [Double]) throws -> Double {
            let outcome = try Self.refusals(load, sendmail.port)
            busy.append(outcome.busy)
            return outcome.rate
        }
        let rates = try plan.alternate(
            times: times,
            { try rate(ours, &busy.postern) },
            {
                try postern.settle()
                return try rate(theirs, &busy.noop)
            })
        let section = "Refused RCPT a second through Sendmail, 8 sessions, \(grouped(recipients)) recipients"
        return [
            try Row(
                section, "no-op filter in C", .perSecond, rates.postern, reference: rates.reference,
                goal: .ratioAtLeast(0.97)),
            try Row(
                section, "  processors for each", .seconds, Array(busy.postern.dropFirst()),
                reference: Array(busy.noop.dropFirst())),
        ]
    }

    /// Recipients that an MTA refuses.
    private static func refusals(_ load: Load, _ port: UInt16) throws -> Load.Outcome {
        try load.run { number in
            let session = try SMTPSession(port: port)
            var next = 0
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
