import Foundation
import LogTestSupport
import TestSupport

@testable import RejectionLog
@testable import RejectionReport

extension RejectionReport {
    /// The text in a number of columns.
    func text(width: Int, timeZone: TimeZone) -> String { text(TextStyle(width: width), timeZone: timeZone) }

    /// The report of an empty log: every section without rows.
    private static func empty() throws -> RejectionReport {
        let folder = try TemporaryFolder()
        RejectionLog(.init(path: folder.database)).close()
        var context = ReportContext()
        context.sync = sync
        return try RejectionReader(path: folder.database).report(
            ReportQuery(LogSelection(since: time(-7), until: time(0))), context)
    }

    private static func time(_ day: Int, _ hour: Int = 0, minute: Int = 0) -> Date {
        Date(timeIntervalSince1970: Double(Sample.base / 1000 + Int64((day * 24 + hour) * 60 + minute) * 60))
    }

    /// A week of a gateway, with rows in every section.
    static let sample: RejectionReport = (try? makeSample()) ?? RejectionReport(figures: weekFigures)

    private static let weekFigures = Figures(
        period: Period(since: time(-7), until: time(0)),
        totals: RecipientTotals(
            refused: 14_730, accepted: 86_204, tempfailed: 41, observed: 318, mtaRefused: 1_877, thinned: 212),
        byReason: [
            "unknown": 9_812, "relay": 2_404, "mta": 1_877, "internal": 422, "harvest": 391, "syntax": 142,
            "no-index": 41,
        ])

    private static let sync: ReportContext.Sync = {
        var sync = ReportContext.Sync()
        sync.index = .init(created: time(-1, 23, minute: 55), recipients: 9_812, age: 300)
        sync.sources = [
            .init(name: "headquarters", recipients: 9_700, asOf: time(-1, 23, minute: 55), failure: nil),
            .init(
                name: "branch", recipients: 112, asOf: time(-3, 4, minute: 0),
                failure: "ldaps://dc9.branch.example: Can't contact LDAP server"),
        ]
        sync.refused = .init(
            time: time(-3, 10, minute: 0),
            text: "headquarters would shrink from 9,700 to 8,490, more than max_shrink = 10%",
            removed: 1_210, acceptable: true)
        return sync
    }()

    private static func makeSample() throws -> RejectionReport {
        func ranking(_ rows: [(String, Int)]) -> [ReportSection.Row] {
            rows.map { .init([.count($1), .text($0)]) }
        }
        var report = try empty()
        report.figures = weekFigures
        report["top.recipients"]?.rows = ranking([
            ("info@example.com", 1_204), ("webmaster@example.org", 688), ("b.keller@example.com", 97),
            ("jon.smith@example.com", 43), ("müller@example.com", 12),
        ])
        report["top.domains"]?.rows = ranking([
            ("example.com", 9_120), ("example.org", 3_565), ("foreign.example", 2_404),
        ])
        report["top.clients"]?.rows = [
            .init([.count(4_811), .text("203.0.113.77"), .text("vps77.bulk.example")]),
            .init([.count(733), .text("2001:db8:25::9"), .text("")]),
            .init([.count(84), .text("198.51.100.8"), .text("mx.partner.example")]),
        ]
        report["top.networks"]?.rows = ranking([("203.0.113.0/24", 5_902), ("2001:db8:25::/64", 733)])
        report["top.senders"]?.rows = ranking([
            ("", 2_077), ("offers@bulk.example", 1_310), ("carl@partner.example", 61),
        ])
        report["top.helos"]?.rows = ranking([
            ("bulk.example", 4_640), ("[203.0.113.78]", 1_011), ("mx.partner.example", 84),
        ])
        report.previous = Figures(
            period: Period(since: time(-14), until: time(-7)),
            totals: RecipientTotals(refused: 10_980, accepted: 83_950, observed: 340, mtaRefused: 1_720),
            byReason: ["unknown": 6_940, "relay": 2_390, "mta": 1_720, "internal": 130, "syntax": 128, "disabled": 12])
        let days = [1_822, 1_790, 1_904, 4_902, 1_688, 1_611, 1_372]
        report.trend = ReportTrend(
            unit: .day,
            steps: days.enumerated().map { day, count in
                .init(
                    start: time(day - 7),
                    verdicts: .init(
                        accepted: 12_000 + day * 105, refused: count - (day == 3 ? 41 : 0) - 40 - day,
                        tempfailed: day == 3 ? 41 : 0, observed: 40 + day))
            })
        for place in report.sections.indices { report.sections[place].advice = [] }
        report.advice = [
            .init(
                .syncRefused,
                "A new recipient list was rejected on 20 November: 1,210 of 9,812 recipients would be removed.",
                action:
                    "Look at the changes with: postern sync --dry-run; accept them with: postern sync --accept-shrink"),
            .init(
                .lateSync, "2 recipients were rejected 26 times before the index listed them, up to 3 hours late.",
                action: "Let the sync run more often (sync.interval), or see why it failed: postern status"),
            .init(
                .nearMisses, "71 rejections look like typing errors for 3 listed recipients.",
                action: "Add an alias for those that were renamed; see Near misses below."),
            .init(
                .harvest, "1 client network tried 2,318 different unknown recipients.",
                action: "Block it at the firewall, or lower harvest.limit: 203.0.113.0/24"),
            .init(
                .observed, "318 recipients were accepted: example.org is in observe mode.",
                action: "When the list is right, set mode = \"enforce\" for it."),
        ]
        report["near_misses"]?.rows = [
            .init([
                .count(43), .text("jon.smith@example.com"), .text("john.smith@example.com"),
                .text("1 letter left out"), .estimate(12, false),
                .span(time(-7, 9, minute: 12), time(-1, 16, minute: 40)),
            ]),
            .init([
                .count(19), .text("petrovic.ana@example.com"), .text("ana.petrovic@example.com"), .text("name order"),
                .estimate(3, false), .span(time(-5, 8, minute: 1), time(-2, 17, minute: 22)),
            ]),
            .init([
                .count(9), .text("sales@exmaple.com"), .text("sales@example.com"), .text("2 letters swapped"),
                .estimate(8, false), .span(time(-6, 11, minute: 0), time(-1, 10, minute: 5)),
            ]),
        ]
        report["listed_now"]?.rows = [
            .init([
                .count(17), .text("b.keller@example.com"), .span(time(-4, 7, minute: 5), time(-4, 9, minute: 58)),
                .time(time(-4, 10, minute: 5)), .duration(10_800),
            ]),
            .init([
                .count(9), .text("new.hire@example.org"), .span(time(-1, 8, minute: 0), time(-1, 8, minute: 41)), .none,
                .duration(2_460, isMinimum: true),
            ]),
        ]
        report["unlisted_senders"]?.rows = [
            .init([.count(1_377), .text("scanner@example.com"), .text("2026-11-22")]),
            .init([.count(4), .text("new.colleague@example.org"), .text("2026-11-19")]),
        ]
        report["harvests"]?.rows = [
            .init([
                .count(5_902), .text("203.0.113.0/24"), .text("vps77.bulk.example"), .estimate(2_318, true), .count(6),
                .count(391), .flag(false), .span(time(-4, 1, minute: 12), time(-4, 13, minute: 50)),
            ])
        ]
        report["correspondents"]?.rows = [
            .init([
                .count(14), .text("carl@partner.example"), .text("old.colleague@example.com"), .count(5),
                .span(time(-7, 9, minute: 0), time(-1, 9, minute: 3)),
            ])
        ]
        report["observed"]?.rows = [("unknown", 301), ("internal", 17)].map {
            .init([.count($1), .text($0), .text(ReportWords.meaning(of: $0))])
        }
        report["mta_replies"]?.rows = ranking([
            ("554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.example", 1_702),
            ("450 4.1.8 Sender address rejected: Domain not found", 175),
        ])
        report["sync.changes"]?.rows = [
            .init([.count(9_806), .time(time(-4, 10, minute: 5)), .count(811)]),
            .init([.count(9_812), .time(time(-1, 23, minute: 55)), .count(812)]),
        ]
        report.coverage.detailsSince = time(-5)
        report.coverage.folded = 640
        return report
    }

    /// `sample` with a table by domain.
    static let tabled: RejectionReport = sample.with(
        .table(.domain, rows: [(.text("example.com"), 9_120), (.text("example.org"), 3_565)], of: 15_089))

    /// The report with a table, or with none.
    func with(_ table: ReportSection?) -> RejectionReport {
        var report = self
        report["table"] = nil
        let place = report.sections.firstIndex { $0.style == .ranking } ?? report.sections.endIndex
        if let table { report.sections.insert(table, at: place) }
        return report
    }

    /// A day by the hour, without findings.
    static let hourly: RejectionReport = {
        var report = sample
        report.advice = []
        report.trend = ReportTrend(
            unit: .hour,
            steps: (0..<24).map { hour in
                .init(
                    start: Date(timeIntervalSince1970: Double(Sample.base / 1000 + Int64(hour) * 3_600)),
                    verdicts: .init(
                        accepted: 900 + hour * 31,
                        refused: [30, 12, 8, 4, 0, 9, 61, 240][hour % 8] * (hour / 8 + 1),
                        tempfailed: hour == 9 ? 120 : 0, observed: hour))
            })
        return report
    }()
}

// MARK: Reading a section

extension RejectionReport {
    /// The values of a column.
    func cells(_ path: String, _ name: String) -> [ReportSection.Cell] {
        guard let section = self[path], let place = section.columns.firstIndex(where: { $0.name == name }) else {
            return []
        }
        return section.rows.map { $0.cells[place] }
    }

    /// The texts of a column.
    func texts(_ path: String, _ name: String) -> [String] {
        cells(path, name).map { if case .text(let text) = $0 { text } else { "\($0)" } }
    }

    /// The numbers of a column.
    func counts(_ path: String, _ name: String = "count") -> [Int] {
        cells(path, name).map { cell in
            switch cell {
            case .duration(let seconds, _): seconds
            default: cell.count ?? -1
            }
        }
    }

    /// The keys of a section with their numbers; of equal keys the sum.
    func countsByKey(_ path: String) -> [String: Int] {
        guard let section = self[path], let key = section.index(of: .key) else { return [:] }
        let pairs = zip(section.rows, section.bars).compactMap { row, count -> (String, Int)? in
            if case .text(let name) = row.cells[key] { (name, count) } else { nil }
        }
        return Dictionary(pairs) { $0 + $1 }
    }

    /// The codes of all findings.
    var codes: [String] { findings.map(\.code.rawValue) }

    /// Sets a value of the section's first row.
    mutating func set(_ path: String, _ name: String, to cell: ReportSection.Cell, row: Int = 0) {
        guard let place = self[path]?.columns.firstIndex(where: { $0.name == name }) else { return }
        self[path]?.rows[row].cells[place] = cell
    }
}
