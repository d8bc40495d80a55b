import Foundation

extension ReportPage {
    /// What is in a column; the raw values are the style sheet's classes.
    private enum Kind: String {
        case number = "n"
        case text = "s"
        case time = "d"
    }

    /// A column of a table.
    private typealias Column = (title: String, kind: Kind)

    /// The sections that are tables, those that have rows.
    var tables: [Content] {
        var tables = [
            unlistedSenders, nearMisses, listedNow, harvests, correspondents,
            table(
                .observed, [("Refusals", .number), ("Reason", .text), ("Meaning", .text)],
                report.observed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map {
                    [grouped($0.value), safe($0.key), ReportWords.meaning(of: $0.key)]
                }),
            table(
                .mta, [("Refusals", .number), ("Reply", .text)],
                report.mtaReplies.map { [grouped($0.count), safe($0.reply)] }),
        ]
        tables += sync
        tables.append(chosen)
        return tables.filter { ($0["isEmpty"] as? Bool) != true }
    }

    private var nearMisses: Content {
        table(
            .nearMisses,
            [
                ("Refusals", .number), ("Refused", .text), ("Did you mean", .text), ("Difference", .text),
                ("Senders", .number),
                ("When", .time),
            ],
            report.nearMisses.map {
                [
                    grouped($0.count), safe($0.recipient), safe($0.resembles), safe($0.difference),
                    about($0.senders, $0.sendersEstimated), span($0.first, $0.last),
                ]
            })
    }

    private var listedNow: Content {
        table(
            .listedNow,
            [("Refusals", .number), ("Recipient", .text), ("Refused", .time), ("Listed", .time), ("Late", .text)],
            report.listedNow.map {
                [
                    grouped($0.count), safe($0.recipient), span($0.first, $0.last), $0.listed.map(time) ?? "not known",
                    ($0.listed == nil ? "at least " : "") + ReportWords.duration($0.late),
                ]
            })
    }

    private var unlistedSenders: Content {
        table(
            .unlistedSenders, [("Messages", .number), ("Sender", .text), ("Last sent", .text)],
            report.unlistedSenders.map { [grouped($0.count), safe($0.address), safe($0.last)] })
    }

    private var harvests: Content {
        table(
            .harvests,
            [
                ("Attempts", .number), ("Network", .text), ("Name", .text), ("Clients", .number),
                ("Recipients", .number),
                ("Stopped", .number), ("Accepted", .text), ("When", .time),
            ],
            report.harvests.map {
                [
                    grouped($0.attempts), safe($0.network), $0.name.isEmpty ? "–" : safe($0.name), grouped($0.clients),
                    about($0.recipients, $0.recipientsEstimated), $0.stopped > 0 ? grouped($0.stopped) : "by nothing",
                    $0.accepted.map { $0 ? "others" : "nothing" } ?? "not known",
                    span($0.first, $0.last),
                ]
            })
    }

    private var correspondents: Content {
        table(
            .correspondents,
            [("Refusals", .number), ("Sender", .text), ("Recipient", .text), ("Days", .number), ("When", .time)],
            report.correspondents.map {
                [
                    grouped($0.count), $0.sender.isEmpty ? "<>" : safe($0.sender), safe($0.recipient),
                    grouped($0.days), span($0.first, $0.last),
                ]
            })
    }

    private var sync: [Content] {
        guard let sync = report.sync else { return [] }
        var facts: [[String]] = []
        if let created = sync.created {
            let age =
                sync.ahead > 0
                ? "dated \(ReportWords.duration(sync.ahead)) in the future"
                : ReportWords.duration(sync.age) + " old" + (sync.isStale ? ": too old" : "")
            facts.append(["In force", grouped(sync.recipients), time(created), age])
        } else {
            facts.append(["In force", "0", "–", "there is none"])
        }
        if let refused = sync.refused {
            facts.append(["Refused", "−" + grouped(refused.removed), time(refused.time), safe(refused.text)])
        }
        facts += sync.sources.map {
            [
                "Source \(safe($0.name))", grouped($0.recipients), $0.asOf.map(time) ?? "–",
                $0.failure.map { "failing: " + safe($0) } ?? "in order",
            ]
        }
        facts += sync.changes.map {
            ["Generation \($0.generation)", grouped($0.recipients), time($0.time), "came into force"]
        }
        return [
            table(.sync, [("What", .text), ("Recipients", .number), ("As of", .time), ("State", .text)], facts)
        ]
    }

    /// The table of `--by`.
    private var chosen: Content {
        guard let chosen = report.table else { return ["isEmpty": true] }
        let name = chosen.key.rawValue
        var rows = chosen.rows.map {
            [ReportWords.value($0.value, chosen.key, zone), grouped($0.count), ReportWords.percent($0.share)]
        }
        if chosen.others > 0 {
            rows.append(["others", grouped(chosen.others), ReportWords.share(chosen.others, of: report.refusals)])
        }
        let title = name.prefix(1).uppercased() + name.dropFirst()
        return table(
            id: "by", "By \(name)", "", [(title, .text), ("Refusals", .number), ("Share", .number)], rows,
            bars: chosen.rows.map(\.count))
    }

    /// The top lists, those that have rows.
    var lists: [Content] {
        let top = report.top
        return [
            list("Top recipients", top.recipients.map { ($0.count, $0.recipient.isEmpty ? "-" : $0.recipient, "") }),
            list("Top domains", top.domains.map { ($0.count, $0.domain, "") }),
            list("Top clients", top.clients.map { ($0.count, $0.client.isEmpty ? "unknown" : $0.client, $0.name) }),
            list("Top networks", top.networks.map { ($0.count, $0.network, "") }),
            list("Top senders", top.senders.map { ($0.count, $0.sender.isEmpty ? "<>" : $0.sender, "") }),
            list("Top HELO names", top.helos.map { ($0.count, $0.helo.isEmpty ? "-" : $0.helo, "") }),
        ].compactMap { $0 }
    }

    private func list(_ title: String, _ rows: [(count: Int, value: String, note: String)]) -> Content? {
        guard !rows.isEmpty else { return nil }
        let most = rows.map(\.count).max() ?? 0
        return [
            "title": title,
            "rows": rows.map { row -> Content in
                [
                    "count": grouped(row.count), "value": safe(row.value), "note": safe(row.note),
                    "hasNote": !row.note.isEmpty, "width": Self.width(row.count, of: most),
                ]
            },
        ]
    }

    private func table(_ section: ReportSection, _ columns: [Column], _ rows: [[String]]) -> Content {
        table(id: section.rawValue, section.title, section.note, columns, rows)
    }

    private func table(
        id: String, _ title: String, _ note: String, _ columns: [Column], _ rows: [[String]], bars: [Int] = []
    ) -> Content {
        let most = bars.max() ?? 0
        return [
            "id": id, "title": title, "note": note, "hasNote": !note.isEmpty, "isEmpty": rows.isEmpty,
            "hasBars": !bars.isEmpty,
            "columns": columns.map { ["title": $0.title, "kind": $0.kind.rawValue] },
            "rows": rows.enumerated().map { place, cells -> Content in
                [
                    "cells": zip(columns, cells).map { column, text -> Content in
                        [
                            "title": column.title, "kind": column.kind.rawValue,
                            // A span of time is broken before its end, if anywhere.
                            "parts": column.kind == .time ? Self.parts(text) : [text],
                        ]
                    },
                    "width": place < bars.count ? Self.width(bars[place], of: most) : "0",
                    "hasBars": !bars.isEmpty,
                ]
            },
        ]
    }

    private static func parts(_ span: String) -> [String] {
        guard let gap = span.range(of: " to ") else { return [span] }
        return [String(span[..<gap.lowerBound]), "to " + span[gap.upperBound...]]
    }

    private func about(_ value: Int, _ isEstimate: Bool) -> String { (isEstimate ? "about " : "") + grouped(value) }
    private func grouped(_ value: Int) -> String { ReportWords.grouped(value) }
    private func safe(_ value: String) -> String { SafeText.escaped(value) }
    private func time(_ date: Date) -> String { Timestamp.local(date, zone) }
    private func span(_ first: Date, _ last: Date) -> String { ReportWords.span(first, last, zone) }
}
