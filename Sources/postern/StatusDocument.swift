import Foundation
import Monitoring
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog

/// What `postern status` shows.
struct StatusDocument: Encodable {
    /// The running filter.
    struct Filter: Encodable {
        /// nil while none is running; 0 where it is in a container out of sight.
        var process: Int?
        /// What it says of itself; nil where it can't be asked.
        var live: FilterFigures?
        /// As configured.
        var socket: String
        var mode: String
        var http: String?
    }

    /// The rejection log.
    struct Log: Encodable {
        var path: String
        /// In octets; 0 where there is none.
        var size: Int
        /// nil where it can't be read.
        var lastHour: RejectionReader.Verdicts?
        var today: RejectionReader.Verdicts?
    }

    /// What needs a look, gravest first.
    private(set) var troubles: [Trouble] = []
    /// What the configuration accepts and an administrator should know.
    private(set) var notices: [String] = []
    private(set) var filter: Filter
    private(set) var index: IndexFigures?
    private(set) var sync: SyncStatus?
    private(set) var log: Log
    private let interval: Int

    private enum CodingKeys: String, CodingKey {
        case troubles, notices, filter, index, sync, log
    }

    init(_ configuration: Configuration) {
        let observing = configuration.domains.filter(\.rules.observe).count
        filter = Filter(
            socket: "\(configuration.socket)",
            mode: configuration.policy.observe || observing > 0 && observing == configuration.domains.count
                ? "observe" : "enforce", http: configuration.http.listen.map { "http://\($0)/" })
        log = Log(
            path: configuration.log.database, size: FilterMonitor.logSize(configuration.log.database))
        interval = configuration.sync.interval
        readFilter(configuration)
        readIndex(configuration)
        if !configuration.sync.sources.isEmpty { sync = SyncStatus(state: configuration.sync.state) }
        troubles += Trouble.all(
            configuration, index: index,
            // What is wrong with the file is told already.
            isIndexExpected: false, sync: sync, parts: filter.live?.parts ?? [])
        readLog(configuration)
        notices = configuration.notices + (filter.live?.user == 0 ? [Words.runningAsRoot] : [])
    }

    private mutating func readFilter(_ configuration: Configuration) {
        do {
            filter.process = try ServiceFile.Visitor(database: configuration.log.database)?.process.map { Int($0) }
            filter.live = StatusSocket.figures(database: configuration.log.database)
            // A filter that can't write beside its log has no file there.
            filter.process = filter.process ?? filter.live?.process
            if filter.process == nil {
                troubles.append(
                    Trouble(
                        text: "no filter is running: the MTA does by default as it is configured",
                        advice: "start it: systemctl start postern, or postern serve"))
            }
        } catch {
            troubles.append(
                Trouble(text: "whether a filter is running can't be told: \(error)", advice: "ask as root"))
        }
    }

    private mutating func readIndex(_ configuration: Configuration) {
        do {
            index = IndexFigures(try IndexInfo(path: configuration.index.path), path: configuration.index.path)
        } catch {
            let goesOn = filter.live?.index != nil
            // The running filter says the same.
            if filter.live?.parts.contains(where: { $0.part == .index && !$0.works }) == true { return }
            troubles.append(
                Trouble(
                    text: "the index can't be used: \(error)",
                    advice: (goesOn ? "the filter goes on with the one that it has; " : "")
                        + (configuration.sync.sources.isEmpty
                            ? "bring it here from where postern sync makes it"
                            : "make it anew: postern sync --once")))
        }
    }

    private mutating func readLog(_ configuration: Configuration) {
        do {
            let reader = try RejectionReader(path: configuration.log.database)
            let now = Date()
            log.lastHour = try reader.verdicts(since: now.addingTimeInterval(-3600), until: now)
            log.today = try reader.verdicts(since: Calendar.current.startOfDay(for: now), until: now)
        } catch {
            // The filter makes it at its first start, and says itself what is wrong with it.
            if error.code == .notFound || filter.live?.log.failing == true { return }
            troubles.append(
                Trouble(text: "\(error)", advice: "see who owns it: ls -l \(configuration.log.database)*"))
        }
    }

    // MARK: Text

    /// For a person, troubles first: 24 lines at most with a few sources and troubles.
    ///
    /// - Parameter width: the columns of the terminal; nil for none: then each trouble has one line, however long.
    func text(width: Int?) -> String {
        var lines: [String] = []
        if troubles.isEmpty { lines.append("all is well") }
        func add(_ text: String) {
            guard let width else { return lines.append(text) }
            lines += Self.folded(text, width, "  ", lines: 5)
        }
        let shown = width == nil ? troubles.count : 6
        for trouble in troubles.prefix(shown) {
            add("! \(trouble.text.onOneLine); \(trouble.advice.onOneLine)")
        }
        if troubles.count > shown { lines.append("! and \(troubles.count - shown) more: postern status --format json") }
        for notice in notices.prefix(4) { add("- \(notice.onOneLine)") }
        lines.append("")
        let rows = filterRows + verdictRows + indexRows + sourceRows + logRows
        lines += rows.map { String($0.prefix(max(width ?? 80, 40))) }
        return lines.joined(separator: "\n")
    }

    private static func row(_ title: String, _ text: String) -> String {
        title.padding(toLength: 11, withPad: " ", startingAt: 0) + text
    }

    private static func ago(_ date: Date) -> String { Words.age(Date().timeIntervalSince(date)) }

    private static func age(_ date: Date) -> String {
        Words.duration(seconds: max(0, Int(Date().timeIntervalSince(date))))
    }

    private var filterRows: [String] {
        guard let process = filter.process else { return [Self.row("filter", "not running; \(filter.socket)")] }
        guard let live = filter.live else {
            return [Self.row("filter", "process \(process) on \(filter.socket); ask as root for more")]
        }
        var rows = [
            Self.row("filter", "process \(live.process), up \(Self.age(live.started)), on \(live.socket)"),
            Self.row("", "\(live.mode), \(Words.count(live.domains, "relay domain"))"),
            Self.row("sessions", "\(live.sessions.open) open, \(live.sessions.total) since the start"),
        ]
        if live.harvest.offenders > 0 || live.harvest.held > 0 {
            rows.append(
                Self.row(
                    "harvest",
                    "\(Words.count(live.harvest.offenders, "network")) over the limit, \(live.harvest.held) held now"))
        }
        if live.unlistedSenders > 0 {
            rows.append(
                Self.row(
                    "senders",
                    "\(live.unlistedSenders) in your domains that the list lacks: postern report"))
        }
        return rows
    }

    private var verdictRows: [String] {
        guard let hour = log.lastHour, let today = log.today else { return [] }
        func cells(_ cells: [String]) -> String {
            cells.map { String(repeating: " ", count: max(1, 12 - $0.count)) + $0 }.joined()
        }
        func row(_ title: String, _ verdicts: RejectionReader.Verdicts) -> String {
            Self.row(
                title,
                cells([verdicts.accepted, verdicts.refused, verdicts.tempfailed, verdicts.observed].map { "\($0)" }))
        }
        return [
            Self.row("verdicts", cells(["accepted", "rejected", "deferred", "observed"])), row("last hour", hour),
            row("today", today),
        ]
    }

    private var indexRows: [String] {
        guard let index else { return [] }
        var text = Words.count(index.recipients, "recipient")
        if index.catchAllDomains > 0 { text += ", " + Words.count(index.catchAllDomains, "catch-all domain") }
        if index.leaving > 0 { text += ", \(index.leaving) leaving" }
        if index.relayDomains > 0 { text += ", \(Words.count(index.relayDomains, "relay domain")) of its own" }
        let age = Words.age(of: index.created)
        let made = age.hasPrefix("dated") ? age : "made \(age)"
        var rows = [
            Self.row("index", text),
            Self.row("", "\(made), generation \(index.generation)"),
        ]
        if let live = filter.live?.index, live.generation != index.generation {
            rows.append(Self.row("", "the filter still answers from generation \(live.generation)"))
        }
        return rows
    }

    private var sourceRows: [String] {
        guard let sync else { return [] }
        var rows: [String] = []
        for (place, source) in sync.sources.prefix(4).enumerated() {
            let method = source.report.method.map { ", \($0)" } ?? ""
            rows.append(
                Self.row(
                    place == 0 ? "sync" : "",
                    "\(source.name.escapedForMessage) (\(source.type)\(method)): "
                        + "\(Words.count(source.recipients, "recipient")), last synced \(source.lastSynced.map(Self.ago) ?? "never")"
                ))
        }
        if sync.sources.count > 4 {
            rows.append(Self.row("", "and \(Words.count(sync.sources.count - 4, "more source"))"))
        }
        for source in (filter.live?.syncOutlook?.running ?? []).prefix(4) {
            let seconds = max(0, Int(Date().timeIntervalSince(source.since)))
            let state =
                source.waitsFor
                ?? "\(Words.count(source.entries, "entry", plural: "entries")), \(Int(source.rate)) a second"
            rows.append(
                Self.row(
                    source.waitsFor == nil ? "reading" : "waiting",
                    "\(source.name.escapedForMessage) for \(Words.duration(seconds: seconds)): \(state)"))
        }
        if let refusal = sync.refusal {
            rows.append(
                Self.row(
                    "refused",
                    refusal.removed > 0
                        ? "\(refusal.removed) would go: \(refusal.first.joined(separator: ", ").escapedForMessage)"
                        : refusal.violations.map(\.text).joined(separator: "; ").onOneLine))
            if let waiting = refusal.waiting {
                rows.append(
                    Self.row("", "\(waiting) by now: what has come since isn't accepted by --accept-shrink"))
            }
        }
        return rows
    }

    private var logRows: [String] {
        var text = "\(log.path.escapedForMessage), \(Self.size(log.size))"
        if let live = filter.live?.log {
            let full = live.queueCapacity > 0 ? live.queued * 100 / live.queueCapacity : 0
            text += ", queue \(full) % full"
            if live.waiting > 0, live.failing { text += ", \(live.waiting) recipients counted in memory" }
            if live.thinned > 0 { text += ", \(live.thinned) rows thinned out" }
        }
        var rows = [Self.row("log", text)]
        if let http = filter.live.map(\.http) ?? filter.http { rows.append(Self.row("http", http)) }
        return rows
    }

    static func size(_ octets: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var (value, unit) = (Double(octets), 0)
        while value >= 1024, unit < units.count - 1 { (value, unit) = (value / 1024, unit + 1) }
        let tenths = (value * 10).rounded() / 10
        return (unit == 0 || value >= 10 ? "\(Int(value.rounded()))" : "\(tenths)") + " \(units[unit])"
    }

    /// The text in lines of at most so many columns, at its spaces where it has any; the last one cut.
    private static func folded(_ text: String, _ width: Int, _ indent: String, lines limit: Int) -> [String] {
        var lines: [String] = []
        var rest = text[...]
        while !rest.isEmpty, lines.count < limit {
            let front = lines.isEmpty ? "" : indent
            let room = max(20, width - front.count)
            guard rest.count > room else {
                lines.append(front + rest)
                return lines
            }
            let piece = rest.prefix(room)
            if lines.count == limit - 1 {
                lines.append(front + piece.dropLast() + "…")
                return lines
            }
            let end =
                piece.lastIndex(of: " ").flatMap { $0 > rest.index(rest.startIndex, offsetBy: 10) ? $0 : nil }
                ?? piece.endIndex
            lines.append(front + rest[..<end])
            rest = rest[end...].drop { $0 == " " }
        }
        return lines
    }
}
