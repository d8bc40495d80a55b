import Foundation
import RejectionLog
import System

/// The recipient index: its age, its sources, its changes.
extension ReportBuilder {
    /// How many changes of the index a report shows.
    private static let changeLimit = 20

    /// The sections about the index and its sources; none where neither is known.
    func sync() -> [Section] {
        guard let sync = context.sync else { return [] }
        return [.indexInForce(sync), .refusedList(sync), .sources(sync), indexChanges()]
    }

    /// The newest indexes that came into force in the period, oldest first.
    private func indexChanges() -> Section {
        let (from, to) = (query.selection.minutes.from * 60_000, query.selection.minutes.to * 60_000)
        return .indexChanges(indexes.filter { $0.time >= from && $0.time < to }.suffix(Self.changeLimit))
    }

    /// Recipients that were deferred because no index could be used.
    func noIndex() -> ReportFinding? {
        let count = (counts.byReason["no-index"] ?? 0) &+ (counts.byReason["stale-index"] ?? 0)
        guard count > 0 else { return nil }
        return .init(
            .tempfailed,
            "\(ReportWords.count(count, "recipient")) \(count == 1 ? "was" : "were") deferred because no recipient index "
                + "could be used. The senders try again.",
            action: "Run \"postern status\" to see why; \"postern sync --once\" makes an index.")
    }
}

extension ReportSection {
    /// The index in force.
    static func indexInForce(_ sync: ReportContext.Sync) -> ReportSection {
        var section = ReportSection(
            "sync", title: "Recipient index", form: .object,
            columns: [
                .init("recipients", "Recipients", as: .count, at: .number), .init("", "State", as: .name, at: .key),
                .init("created", "Made", as: .time, csv: "as_of", phrase: "made {}"),
                .init("age", "Age", as: .duration, at: .data), .init("ahead", "Ahead", as: .duration, at: .data),
                .init("stale", "Too old", as: .flag(yes: "yes", no: "no"), at: .data),
            ])
        guard let index = sync.index else {
            let zero = Cell.duration(0)
            section.rows = [
                .init([.count(0), .text("no index"), .none, zero, zero, .flag(false)], isProblem: true)
            ]
            return section
        }
        let age = Words.duration(seconds: index.age)
        let state =
            index.ahead > 0
            ? "dated \(Words.duration(seconds: index.ahead)) in the future"
            : index.isStale ? "too old: \(age) old" : "in force, \(age) old"
        section.rows = [
            .init(
                [
                    .count(index.recipients), .text(state), .time(index.created), .duration(index.age),
                    .duration(index.ahead), .flag(index.isStale),
                ], isProblem: index.isStale || index.ahead > 0)
        ]
        if index.ahead > 0 {
            section.advise(
                .indexStale,
                "The recipient index is dated \(Words.duration(seconds: index.ahead)) in the future, so its age is unknown.",
                action:
                    "Set the clock of this machine, or of the machine that makes the index; then run \"postern sync --once\" "
                    + "there.")
        } else if index.isStale {
            section.advise(
                .indexStale,
                "The recipient index is \(age) old, older than index.max_age allows: recipients "
                    + "added since are rejected.",
                action:
                    "Run \"postern status\" to see whether the sync runs, and \"postern sync --once\" to try it now."
            )
        }
        return section
    }

    /// The list that a guard rejected.
    static func refusedList(_ sync: ReportContext.Sync) -> ReportSection {
        var section = ReportSection(
            "sync.refused", title: "Rejected recipient list",
            note: "A guard rejected it; the index before it stays in use.",
            form: .object,
            columns: [
                .number("removed", "Would be removed"), .init("time", "Rejected", as: .time, at: .key, csv: "as_of"),
                .init("text", "Reason", as: .text),
                .init("acceptable", "Acceptable", as: .flag(yes: "yes", no: "no"), at: .data),
            ])
        guard let refused = sync.refused else { return section }
        section.rows = [
            .init(
                [.count(refused.removed), .time(refused.time), .text(refused.text), .flag(refused.acceptable)],
                isProblem: true)
        ]
        section.advise(
            .syncRefused,
            "Postern rejected the newest recipient list, because \(ReportWords.count(refused.removed, "recipient")) would be "
                + "removed. The list before it stays in use, and changes since have no effect.",
            action: refused.acceptable
                ? "See the changes with \"postern sync --dry-run\"; if they are right, run \"postern sync --accept-shrink\"."
                : "See why with \"postern sync --dry-run\", and correct the directory or the limits in [sync].")
        return section
    }

    /// The sources of the list.
    static func sources(_ sync: ReportContext.Sync) -> ReportSection {
        var section = ReportSection(
            "sync.sources", title: "Sources",
            columns: [
                .init("recipients", "Recipients", as: .count, at: .number),
                .init("name", "Source", as: .name, at: .key),
                .init("as_of", "Last synced", as: .time, phrase: "last synced {}"),
                .init("failure", "Failure", as: .text, csv: "text", phrase: "failing: {}"),
            ],
            rows: sync.sources.map {
                .init(
                    [
                        .count($0.recipients), .text($0.name), $0.asOf.map(Cell.time) ?? .none,
                        $0.failure.map(Cell.text) ?? .none,
                    ], isProblem: $0.failure != nil)
            })
        section.advice = sync.sources.compactMap { source in
            guard let failure = source.failure else { return nil }
            return .init(
                .sourceFailing,
                "Postern can't read the recipients of the source \"\(source.name)\" (\(failure)). Its last list stays in use: new "
                    + "mailboxes are rejected, and removed ones accepted.",
                action:
                    "Run \"postern sync --once\" to see the error; check the server, its certificate and the password.")
        }
        return section
    }

    /// The indexes that came into force.
    static func indexChanges(_ indexes: some Sequence<RecordedIndex>) -> ReportSection {
        ReportSection(
            "sync.changes", title: "Changes of the recipient index",
            columns: [
                .init("recipients", "Recipients", as: .count, at: .number),
                .init("time", "In force since", as: .time, at: .key, csv: "as_of"),
                .init("generation", "Generation", as: .count, at: .beside, csv: "generation", phrase: "generation {}"),
            ],
            rows: indexes.map {
                .init([
                    .count(Int($0.recipients)), .time(Timestamp.date(milliseconds: $0.time)),
                    .count(Int($0.generation)),
                ])
            })
    }
}
