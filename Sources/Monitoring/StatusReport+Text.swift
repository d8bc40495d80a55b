import Foundation
import RecipientSources
import RecipientSync
import RejectionLog
import System

extension StatusReport {
    /// The status as text, troubles first: 24 lines at most with a few sources and troubles.
    ///
    /// - Parameter width: the columns of the terminal; nil without one: then each trouble has one line, however long.
    package func text(width: Int?) -> String {
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
        guard let process = filter.process else {
            return [Self.row("filter", "\(mayRun ? "not known" : "not running"); \(filter.socket)")]
        }
        guard let live = filter.live else {
            return [Self.row("filter", "process \(process) on \(filter.socket); no answer")]
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
                    "\(Words.count(live.harvest.offenders, "network")) over the limit, \(live.harvest.held) in the tarpit"
                ))
        }
        if live.unlistedSenders > 0 {
            rows.append(
                Self.row(
                    "senders",
                    "\(live.unlistedSenders) of your domains that the index doesn't list: postern report"))
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
        if index.relayDomains > 0 { text += ", names \(Words.count(index.relayDomains, "relay domain"))" }
        let age = Words.age(of: index.created)
        let made = age.hasPrefix("dated") ? age : "made \(age)"
        var rows = [
            Self.row("index", text),
            Self.row("", "\(made), generation \(index.generation)"),
        ]
        if let live = filter.live?.index, live.generation != index.generation {
            rows.append(Self.row("", "the filter still uses generation \(live.generation)"))
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
                        + "\(Words.count(source.recipients, "recipient")), last synced "
                        + (source.lastSynced.map(Self.ago) ?? "never")))
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
                        ? "\(refusal.removed) would be removed: \(refusal.first.joined(separator: ", ").escapedForMessage)"
                        : refusal.violations.map(\.text).joined(separator: "; ").onOneLine))
            if let waiting = refusal.waiting {
                rows.append(
                    Self.row("", "\(waiting) by now; --accept-shrink doesn't accept those that came later"))
            }
        }
        return rows
    }

    private var logRows: [String] {
        var text = "\(log.path.escapedForMessage), \(Words.size(log.size))"
        if let live = filter.live?.log {
            let full = live.queueCapacity > 0 ? live.queued * 100 / live.queueCapacity : 0
            text += ", queue \(full) % full"
            if live.waiting > 0, live.failing { text += ", \(live.waiting) recipients counted in memory" }
            if live.thinned > 0 { text += ", \(live.thinned) rows left out" }
        }
        var rows = [Self.row("log", text)]
        if let http = filter.live.map(\.http) ?? filter.http { rows.append(Self.row("http", http)) }
        return rows
    }

    /// The text in lines of at most this width, folded at spaces if possible; the last line is cut.
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
