import Foundation

@testable import RejectionLog

extension RejectionReport {
    /// As a test that asks for a width alone wants it.
    func text(width: Int, timeZone: TimeZone) -> String { text(TextStyle(width: width), timeZone: timeZone) }

    /// A week of a gateway in which there is something of everything.
    static let sample: RejectionReport = {
        func time(_ day: Int, _ hour: Int = 0, _ minute: Int = 0) -> Date {
            Date(timeIntervalSince1970: Double(Sample.base / 1000 + Int64((day * 24 + hour) * 60 + minute) * 60))
        }
        let period = Period(since: time(-7), until: time(0))
        var totals = Totals(
            refused: 14_730, accepted: 86_204, tempfailed: 41, observed: 318, mtaRefused: 1_877, thinned: 212)
        var report = RejectionReport(
            period: period, totals: totals,
            byReason: [
                "unknown": 9_812, "relay": 2_404, "mta": 1_877, "internal": 422, "harvest": 391, "syntax": 142,
                "no-index": 41,
            ],
            top: Top(
                recipients: [
                    .init(recipient: "info@example.com", count: 1_204),
                    .init(recipient: "webmaster@example.org", count: 688),
                    .init(recipient: "b.keller@example.com", count: 97),
                    .init(recipient: "jon.smith@example.com", count: 43),
                    .init(recipient: "müller@example.com", count: 12),
                ],
                domains: [
                    .init(domain: "example.com", count: 9_120), .init(domain: "example.org", count: 3_565),
                    .init(domain: "foreign.example", count: 2_404),
                ],
                clients: [
                    .init(client: "203.0.113.77", name: "vps77.bulk.example", count: 4_811),
                    .init(client: "2001:db8:25::9", name: "", count: 733),
                    .init(client: "198.51.100.8", name: "mx.partner.example", count: 84),
                ],
                networks: [
                    .init(network: "203.0.113.0/24", count: 5_902), .init(network: "2001:db8:25::/64", count: 733),
                ],
                senders: [
                    .init(sender: "", count: 2_077), .init(sender: "offers@bulk.example", count: 1_310),
                    .init(sender: "carl@partner.example", count: 61),
                ],
                helos: [
                    .init(helo: "bulk.example", count: 4_640), .init(helo: "[203.0.113.78]", count: 1_011),
                    .init(helo: "mx.partner.example", count: 84),
                ]))
        totals.refused = 10_980
        totals.accepted = 83_950
        totals.tempfailed = 0
        totals.observed = 340
        totals.mtaRefused = 1_720
        totals.thinned = 0
        report.previous = Previous(
            period: Period(since: time(-14), until: time(-7)), totals: totals,
            byReason: ["unknown": 6_940, "relay": 2_390, "mta": 1_720, "internal": 130, "syntax": 128, "disabled": 12])
        let days = [1_822, 1_790, 1_904, 4_902, 1_688, 1_611, 1_372]
        report.trend = Trend(
            unit: .day,
            steps: days.enumerated().map { day, count in
                .init(
                    start: time(day - 7), refused: count - (day == 3 ? 41 : 0) - 40 - day,
                    tempfailed: day == 3 ? 41 : 0,
                    observed: 40 + day, accepted: 12_000 + day * 105)
            })
        report.findings = [
            .init(
                level: .problem, code: "sync-refused",
                text: "A new list of recipients was refused on 20 November: 1,210 of 9,812 recipients would have gone.",
                action: "Look at what would go with: postern sync --dry-run; take it with: postern sync --accept-shrink"
            ),
            .init(
                level: .problem, code: "late-sync",
                text: "2 recipients were refused 26 times before the list had them, up to 3 hours late.",
                action: "Let the sync run more often (sync.interval), or see why it failed: postern status"),
            .init(
                level: .notice, code: "near-misses",
                text: "71 refusals look like typing errors for 3 listed recipients.",
                action: "Add an alias for those that were renamed; see Near misses below."),
            .init(
                level: .notice, code: "harvest",
                text: "1 client network tried 2,318 different unknown recipients.",
                action: "Block it at the firewall, or lower harvest.limit: 203.0.113.0/24"),
            .init(
                level: .notice, code: "observed", text: "318 refusals were let pass: example.org is in observe mode.",
                action: "When the list is right, set mode = \"enforce\" for it."),
        ]
        report.nearMisses = [
            .init(
                recipient: "jon.smith@example.com", resembles: "john.smith@example.com",
                difference: "1 letter left out", count: 43, senders: 12, first: time(-7, 9, 12), last: time(-1, 16, 40)),
            .init(
                recipient: "petrovic.ana@example.com", resembles: "ana.petrovic@example.com", difference: "name order",
                count: 19, senders: 3, first: time(-5, 8, 1), last: time(-2, 17, 22)),
            .init(
                recipient: "sales@exmaple.com", resembles: "sales@example.com", difference: "2 letters swapped",
                count: 9,
                senders: 8, first: time(-6, 11, 0), last: time(-1, 10, 5)),
        ]
        report.listedNow = [
            .init(
                recipient: "b.keller@example.com", count: 17, first: time(-4, 7, 5), last: time(-4, 9, 58),
                listed: time(-4, 10, 5), late: 10_800),
            .init(
                recipient: "new.hire@example.org", count: 9, first: time(-1, 8, 0), last: time(-1, 8, 41), late: 2_460),
        ]
        report.unlistedSenders = [
            .init(address: "scanner@example.com", count: 1_377, last: "2026-11-22"),
            .init(address: "new.colleague@example.org", count: 4, last: "2026-11-19"),
        ]
        report.harvests = [
            .init(
                network: "203.0.113.0/24", name: "vps77.bulk.example", clients: 6, recipients: 2_318,
                recipientsEstimated: true, attempts: 5_902,
                first: time(-4, 1, 12), last: time(-4, 13, 50), stopped: 391, accepted: false)
        ]
        report.correspondents = [
            .init(
                sender: "carl@partner.example", recipient: "old.colleague@example.com", days: 5, count: 14,
                first: time(-7, 9, 0), last: time(-1, 9, 3))
        ]
        report.observed = ["unknown": 301, "internal": 17]
        report.mtaReplies = [
            .init(reply: "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.example", count: 1_702),
            .init(reply: "450 4.1.8 Sender address rejected: Domain not found", count: 175),
        ]
        var sync = SyncHealth()
        sync.created = time(-1, 23, 55)
        sync.recipients = 9_812
        sync.age = 300
        sync.sources = [
            .init(name: "headquarters", recipients: 9_700, asOf: time(-1, 23, 55), failure: nil),
            .init(
                name: "branch", recipients: 112, asOf: time(-3, 4, 0),
                failure: "ldaps://dc9.branch.example: Can't contact LDAP server"),
        ]
        sync.refused = .init(
            time: time(-3, 10, 0), text: "headquarters would shrink from 9,700 to 8,490, more than max_shrink = 10%",
            removed: 1_210, acceptable: true)
        sync.changes = [
            .init(time: time(-4, 10, 5), generation: 811, recipients: 9_806),
            .init(time: time(-1, 23, 55), generation: 812, recipients: 9_812),
        ]
        report.sync = sync
        report.coverage.detailsSince = time(-5)
        report.coverage.folded = 640
        return report
    }()

    /// `sample` with a table by domain.
    static let tabled: RejectionReport = {
        var report = sample
        report.table = Table(
            key: .domain,
            rows: [
                .init(value: "example.com", count: 9_120, share: 60.4),
                .init(value: "example.org", count: 3_565, share: 23.6),
            ], others: 2_404)
        return report
    }()
}

extension RejectionReport {
    /// A day by the hour, with nothing else to say.
    static let hourly: RejectionReport = {
        var report = sample
        report.findings = []
        report.trend = Trend(
            unit: .hour,
            steps: (0..<24).map { hour in
                .init(
                    start: Date(timeIntervalSince1970: Double(Sample.base / 1000 + Int64(hour) * 3_600)),
                    refused: [30, 12, 8, 4, 0, 9, 61, 240][hour % 8] * (hour / 8 + 1), tempfailed: hour == 9 ? 120 : 0,
                    observed: hour, accepted: 900 + hour * 31)
            })
        return report
    }()
}
