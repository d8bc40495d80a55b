import Foundation

extension ReportText {
    /// How the list of recipients did.
    func sync() -> [String] {
        guard let sync = report.sync else { return [] }
        var lines = [layout.title(ReportSection.sync.title)]
        func add(_ text: String, _ tone: TextLayout.Tone = .plain) {
            lines += layout.wrapped(layout.plain(text), first: "  ", rest: "    ", tone: tone)
        }
        if let created = sync.created {
            let age =
                sync.ahead > 0
                ? "dated \(ReportWords.duration(sync.ahead)) in the future"
                : "\(ReportWords.duration(sync.age)) old" + (sync.isStale ? ": too old" : "")
            add(
                "in force: \(ReportWords.count(sync.recipients, "recipient")), "
                    + "from \(Timestamp.local(created, zone)), \(age)",
                sync.isStale || sync.ahead > 0 ? .problem : .plain)
        } else {
            add("there is none in force", .problem)
        }
        if let refused = sync.refused {
            add(
                "refused \(Timestamp.local(refused.time, zone)), \(ReportWords.count(refused.removed, "recipient")) would have "
                    + "gone: \(SafeText.escaped(refused.text))", .problem)
        }
        for source in sync.sources {
            var text = "source \(SafeText.escaped(source.name)): \(ReportWords.count(source.recipients, "recipient"))"
            if let time = source.asOf { text += ", as of \(Timestamp.local(time, zone))" }
            if let failure = source.failure { text += "; failing: \(SafeText.escaped(failure))" }
            add(text, source.failure == nil ? .plain : .problem)
        }
        for change in sync.changes {
            add(
                "\(Timestamp.local(change.time, zone))  generation \(change.generation), "
                    + ReportWords.count(change.recipients, "recipient"), .quiet)
        }
        return lines
    }
}
