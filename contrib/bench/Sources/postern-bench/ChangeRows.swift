import Glibc

/// Measures the time from a change in a directory to the changed verdict, through a Postfix.
struct ChangeRows {
    let plan: Plan
    private static let section = "Change in the directory to enforced verdict, through Postfix"

    /// OpenLDAP, which reports changes, with this number of recipients.
    ///
    /// - Parameter idles: whether to measure memory and processor time of `postern serve`, too.
    func openLDAP(recipients: Int, idles: Bool) throws -> [Row] {
        let slapd = try Slapd(people: recipients)
        defer { slapd.stop() }
        let postern = try PosternInstance(plan, sources: PosternInstance.source(slapd))
        var rows: [Row] = []
        let first = try postern.sync()
        if idles {
            rows.append(
                try Row(
                    SyncRows.section, "peak memory, \(grouped(recipients))", .mebibytes,
                    [Double(first.peakResident) / 1_048_576],
                    goal: .atMost(200)))
        }
        try postern.serve()
        defer { postern.stop() }
        let postfix = try Postfix(["smtpd_milters": "inet:127.0.0.1:\(postern.port)"])
        defer { postfix.stop() }
        let times = try measure(postern, postfix, within: 0.5...1.5) { try slapd.change($0, of: $1, adds: $2) }
        rows += try rowsOf(times, "OpenLDAP, \(grouped(recipients))", goal: 1)
        if idles { rows += try idle(postern, recipients) }
        return rows
    }

    /// Active Directory, asked every five seconds, beside a list with the rest of the recipients.
    func activeDirectory(recipients: Int) throws -> [Row] {
        let interval = 5.0
        let samba = try Samba(contacts: plan.scaled(1_000, quick: 100))
        defer { samba.stop() }
        let list = Scratch.path("others.list")
        try Scratch.write(to: list, count: recipients) { "other\($0)@example.com\n" }
        let secret = try Scratch.write(Samba.password + "\n", to: Scratch.path("samba.secret"), mode: 0o600)
        let postern = try PosternInstance(
            plan,
            sources: """
                [[source]]
                name = "domain"
                type = "active-directory"
                uris = ["\(samba.uri)"]
                bases = ["\(Samba.base)"]
                bind_dn = "\(Samba.bindDN)"
                password_file = "\(secret)"
                allow_plaintext = true
                push = false
                [[source]]
                name = "others"
                type = "file"
                format = "list"
                path = "\(list)"
                """, settings: "interval = \"\(Int(interval))s\"")
        try postern.sync()
        try postern.serve()
        defer { postern.stop() }
        let postfix = try Postfix(["smtpd_milters": "inet:127.0.0.1:\(postern.port)"])
        defer { postfix.stop() }
        let times = try measure(postern, postfix, within: 0...interval) { try samba.change($0, of: $1, adds: $2) }
        return try rowsOf(times, "AD every 5 s, \(grouped(recipients))", goal: interval + 1)
    }

    private func rowsOf(_ times: (added: [Double], removed: [Double]), _ name: String, goal: Double) throws -> [Row] {
        try [("added", times.added), ("removed", times.removed)].flatMap { what, times in
            [
                try Row(Self.section, "\(name), \(what)", .seconds, times, goal: .atMost(goal)),
                try Row(
                    Self.section, "  the slowest of \(times.count)", .seconds, [times.max() ?? 0], goal: .atMost(goal)),
            ]
        }
    }

    /// Seconds from the end of a change to the first changed answer.
    ///
    /// - Parameter period: the seconds until the next change.
    private func measure(
        _ postern: PosternInstance, _ postfix: Postfix, within period: ClosedRange<Double>,
        _ change: (_ address: String, _ entry: Int, _ adds: Bool) throws -> Void
    ) throws -> (added: [Double], removed: [Double]) {
        let session = try SMTPSession(port: postfix.port)
        func wait(for code: Int, _ address: String) throws -> Double {
            let began = ContinuousClock.now
            var given = 0
            let isThere = try eventually(within: 60, every: 5_000) {
                given = try session.ask(address)
                return given == code
            }
            guard isThere else {
                throw Failure("\(address): still \(given) after a minute\n\(postern.log)")
            }
            return (ContinuousClock.now - began) / .seconds(1)
        }
        var times: (added: [Double], removed: [Double]) = ([], [])
        let changes = plan.scaled(10, quick: 2)
        // The first question waits for the end of the first sync.
        for number in 0...changes {
            let address = "added\(number)@example.com"
            guard try session.ask(address) == 550 else { throw Failure("\(address) is accepted before it was added") }
            try change(address, number, true)
            let added = try wait(for: 250, address)
            // Changes come at random moments of the interval.
            usleep(UInt32(.random(in: period) * 1e6))
            try change(address, number, false)
            let removed = try wait(for: 550, address)
            // Changes come at random moments of the interval.
            usleep(UInt32(.random(in: period) * 1e6))
            if number == 0 { continue }
            Progress.say("  change \(number): added \(Table.number(added)) s, removed \(Table.number(removed)) s")
            times.added.append(added)
            times.removed.append(removed)
        }
        return times
    }

    /// Processor time while idle, and memory.
    private func idle(_ postern: PosternInstance, _ recipients: Int) throws -> [Row] {
        let section = "postern serve at \(grouped(recipients)) recipients, OpenLDAP persisting"
        let seconds = plan.isQuick ? 3.0 : 30
        sleep(2)
        Progress.say("  idle for \(Int(seconds)) s")
        let before = try postern.processorSeconds()
        usleep(UInt32(seconds * 1e6))
        let spent = try postern.processorSeconds() - before
        let resident = try postern.resident()
        return [
            try Row(section, "processor while idle", .percent, [spent / seconds * 100], goal: .atMost(1)),
            try Row(
                section, "resident, anonymous", .mebibytes, [resident.anonymous / 1_048_576],
                goal: .atMost(40)),
            try Row(section, "resident, of files", .mebibytes, [resident.fileBacked / 1_048_576]),
        ]
    }
}
