import Foundation
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// The content of `postern status`: the running filter, its index, its sync and its log.
package struct StatusReport: Encodable {
    /// The running filter.
    struct Filter: Encodable {
        /// The process ID; nil if no filter runs, 0 if it runs in another PID namespace.
        var process: Int?
        /// The state of the running filter; nil if it can't be asked.
        var live: FilterStatus?
        /// As configured, like the following ones.
        var socket: String
        var mode: String
        var http: String?
    }

    /// The rejection log.
    struct Log: Encodable {
        var path: String
        /// In bytes; 0 if there is none.
        var size: Int
        /// nil if the log can't be read.
        var lastHour: RejectionReader.Verdicts?
        var today: RejectionReader.Verdicts?
    }

    /// The problems that need an administrator, gravest first.
    package private(set) var troubles: [Trouble] = []
    /// Settings that are valid and perhaps not intended, one sentence each.
    private(set) var notices: [String]
    private(set) var filter: Filter
    private(set) var index: FilterStatus.Index?
    private(set) var sync: SyncStatus?
    private(set) var log: Log
    /// Whether a filter may be running though it can't be asked.
    private(set) var mayRun = false

    private enum CodingKeys: String, CodingKey {
        case troubles, notices, filter, index, sync, log
    }

    /// The status now: asks the running filter, and reads the index file, the sync state and the log.
    package init(_ settings: MonitoringSettings) {
        filter = Filter(socket: settings.socket, mode: settings.mode, http: settings.http)
        log = Log(path: settings.logDatabase, size: settings.logSize)
        notices = settings.notices
        askFilter(settings)
        readIndex(settings)
        if !settings.sources.isEmpty { sync = SyncStatus(state: settings.syncState) }
        troubles += Trouble.all(
            settings, parts: filter.live?.parts ?? [], index: index,
            // readIndex(_:) has added the trouble of a missing index.
            isIndexExpected: false, sync: sync)
        readLog(settings)
        if filter.live?.user == 0 { notices.append(FilterStatus.rootNotice) }
    }

    private mutating func askFilter(_ settings: MonitoringSettings) {
        do {
            let client = try ControlClient(database: settings.logDatabase)
            filter.process = Int(client.process)
            filter.live = client.status()
            if filter.live == nil {
                troubles.append(
                    Trouble(
                        text: "the filter, process \(client.process), doesn't answer",
                        advice: "see its messages, and check that it runs this version of Postern"))
            }
        } catch {
            mayRun = error.kind != .notRunning
            troubles.append(
                mayRun
                    ? Trouble(text: "the filter can't be asked: \(error)", advice: "run postern status as root")
                    : Trouble(
                        text: "no filter is running: the MTA handles mail as it is configured for that case",
                        advice: "start it: systemctl start postern, or postern serve"))
        }
    }

    private mutating func readIndex(_ settings: MonitoringSettings) {
        do {
            index = .init(try IndexInfo(path: settings.indexPath), path: settings.indexPath)
        } catch {
            // The running filter reports this trouble itself.
            if filter.live?.parts.contains(where: { $0.part == .index && !$0.works }) == true { return }
            troubles.append(
                Trouble(
                    text: "the index can't be used: \(error)",
                    advice: (filter.live?.index == nil ? "" : "the filter goes on with the index in memory; ")
                        + (settings.sources.isEmpty
                            ? "copy the index here from the machine where postern sync makes it"
                            : "make a new index: postern sync --once")))
        }
    }

    private mutating func readLog(_ settings: MonitoringSettings) {
        do {
            let reader = try RejectionReader(path: settings.logDatabase)
            let now = Date()
            log.lastHour = try reader.verdicts(since: now.addingTimeInterval(-3600), until: now)
            log.today = try reader.verdicts(since: Calendar.current.startOfDay(for: now), until: now)
        } catch {
            // The filter makes the log at its first start, and reports itself that it can't write the log.
            if error.code == .notFound || filter.live?.log.failing == true { return }
            troubles.append(
                Trouble(text: "\(error)", advice: "check the owner of the files: ls -l \(settings.logDatabase)*"))
        }
    }
}

// MARK: Text

extension StatusReport {
    /// The status as text, troubles first; at most 24 lines with a few sources and troubles.
    ///
    /// - Parameter width: the columns of the terminal; nil without a terminal: then each trouble has one line of any length.
    package func text(width: Int?) -> String {
        var lines: [String] = []
        if troubles.isEmpty { lines.append("all is well") }
        func add(_ text: String) {
            guard let width else { return lines.append(text) }
            lines += Self.folded(text, width: width, lines: 5)
        }
        let shown = width == nil ? troubles.count : 6
        for trouble in troubles.prefix(shown) { add("! \(trouble.text.onOneLine); \(trouble.advice.onOneLine)") }
        if troubles.count > shown { lines.append("! and \(troubles.count - shown) more: postern status --format json") }
        for notice in notices.prefix(4) { add("- \(notice.onOneLine)") }
        lines.append("")
        for row in filterRows + verdictRows + indexRows + sourceRows + logRows {
            let line = row.title.padding(toLength: 11, withPad: " ", startingAt: 0) + row.text
            lines.append(String(line.prefix(max(width ?? 80, 40))))
        }
        return lines.joined(separator: "\n")
    }

    /// A line of the status; without a title, it belongs to the line before.
    private typealias Row = (title: String, text: String)

    private static func duration(since date: Date) -> String {
        let seconds = Date().timeIntervalSince(date)
        return Words.duration(seconds: Int(exactly: max(0, seconds).rounded(.down)) ?? .max)
    }

    private var filterRows: [Row] {
        guard let process = filter.process else {
            return [("filter", "\(mayRun ? "not known" : "not running"); \(filter.socket)")]
        }
        guard let live = filter.live else { return [("filter", "process \(process) on \(filter.socket); no answer")] }
        var rows = [
            ("filter", "process \(live.process), up \(Self.duration(since: live.started)), on \(live.socket)"),
            ("", "\(live.mode), \(Words.count(live.domains, "relay domain"))"),
            ("sessions", "\(live.sessions.open) open, \(live.sessions.total) since the start"),
        ]
        if live.harvest.offenders > 0 || live.harvest.held > 0 {
            let networks = Words.count(live.harvest.offenders, "network")
            rows.append(("harvest", "\(networks) over the limit, \(live.harvest.held) in the tarpit"))
        }
        if live.unlistedSenders > 0 {
            rows.append(
                (
                    "senders",
                    "\(Words.count(live.unlistedSenders, "address", plural: "addresses")) in relay domains "
                        + (live.unlistedSenders == 1 ? "sends mail but isn't" : "send mail but aren't")
                        + " in the index: postern report"
                ))
        }
        return rows
    }

    private var verdictRows: [Row] {
        guard let hour = log.lastHour, let today = log.today else { return [] }
        func row(_ title: String, _ cells: [String]) -> Row {
            (title, cells.map { String(repeating: " ", count: max(1, 12 - $0.count)) + $0 }.joined())
        }
        func row(_ title: String, _ verdicts: RejectionReader.Verdicts) -> Row {
            row(title, [verdicts.accepted, verdicts.refused, verdicts.tempfailed, verdicts.observed].map { "\($0)" })
        }
        return [
            row("verdicts", ["accepted", "rejected", "deferred", "observed"]), row("last hour", hour),
            row("today", today),
        ]
    }

    private var indexRows: [Row] {
        guard let index else { return [] }
        var text = Words.count(index.recipients, "recipient")
        if index.catchAllDomains > 0 { text += ", " + Words.count(index.catchAllDomains, "catch-all domain") }
        if index.leaving > 0 { text += ", \(index.leaving) leaving" }
        if index.relayDomains > 0 { text += ", names \(Words.count(index.relayDomains, "relay domain"))" }
        let age = Words.age(of: index.created)
        let made = age.hasPrefix("dated") ? age : "made \(age)"
        var rows = [("index", text), ("", "\(made), generation \(index.generation)")]
        if let live = filter.live?.index, live.generation != index.generation {
            rows.append(("", "the filter still uses generation \(live.generation)"))
        }
        return rows
    }

    private var sourceRows: [Row] {
        guard let sync else { return [] }
        var rows: [Row] = []
        for source in sync.sources.prefix(4) {
            let method = source.report.method.map { ", \($0)" } ?? ""
            let synced = source.lastSynced.map { Words.age(Date().timeIntervalSince($0)) } ?? "never"
            let text =
                "\(source.name.escapedForMessage) (\(source.type)\(method)): "
                + "\(Words.count(source.recipients, "recipient")), last synced \(synced)"
            rows.append((rows.isEmpty ? "sync" : "", text))
        }
        if sync.sources.count > 4 { rows.append(("", "and \(Words.count(sync.sources.count - 4, "more source"))")) }
        for source in (filter.live?.syncOutlook?.running ?? []).prefix(4) {
            let state =
                source.waitsFor
                ?? "\(Words.count(source.entries, "entry", plural: "entries")), \(Int(source.rate)) a second"
            let place = "\(source.name.escapedForMessage) for \(Self.duration(since: source.since))"
            rows.append((source.waitsFor == nil ? "reading" : "waiting", "\(place): \(state)"))
        }
        if let refusal = sync.refusal {
            let text =
                refusal.removed > 0
                ? "\(refusal.removed) would be removed: \(refusal.first.joined(separator: ", ").escapedForMessage)"
                : refusal.violations.map(\.text).joined(separator: "; ").onOneLine
            rows.append(("rejected", text))
            if let waiting = refusal.waiting {
                rows.append(
                    (
                        "",
                        "\(Words.count(waiting, "recipient")) would be removed now; "
                            + "--accept-shrink accepts only those that were shown when the list was rejected"
                    ))
            }
        }
        return rows
    }

    private var logRows: [Row] {
        var text = "\(log.path.escapedForMessage), \(Words.size(log.size))"
        if let live = filter.live?.log {
            let full = live.queueCapacity > 0 ? live.queued * 100 / live.queueCapacity : 0
            text += ", queue \(full) % full"
            if live.waiting > 0, live.failing { text += ", \(live.waiting) recipients counted in memory" }
            if live.thinned > 0 { text += ", \(live.thinned) rows left out" }
        }
        let http = filter.live.map(\.http) ?? filter.http
        return [("log", text)] + (http.map { [("http", $0)] } ?? [])
    }

    /// The text in lines of at most this width, folded at spaces if possible; the last line is cut.
    private static func folded(_ text: String, width: Int, lines limit: Int) -> [String] {
        var lines: [String] = []
        var rest = text[...]
        while !rest.isEmpty {
            let indent = lines.isEmpty ? "" : "  "
            let room = max(20, width - indent.count)
            if rest.count <= room { return lines + [indent + rest] }
            let piece = rest.prefix(room)
            if lines.count == limit - 1 { return lines + [indent + piece.dropLast() + "…"] }
            let space = piece.lastIndex(of: " ").flatMap { piece[..<$0].count > 10 ? $0 : nil }
            lines.append(indent + rest[..<(space ?? piece.endIndex)])
            rest = rest[(space ?? piece.endIndex)...].drop { $0 == " " }
        }
        return lines
    }
}
