import System

/// Detail rows that the writer has just taken over, whether or not it can write them, for ``RejectionLog/Options/stored``; valid for the call only.
public struct StoredRows {
    let buffers: [DetailBuffer]
    let domains: [String]
    let reasons: [String]
    /// How many rows were thinned out since the last call, and are therefore not among these.
    public let thinned: Int

    /// The first rows of reasons that are wanted, in the order of time, and how many more there are of these.
    ///
    /// The id of each is 0. What isn't asked for costs next to nothing.
    public func entries(limit: Int, without unwanted: Set<String> = []) -> (entries: [LogEntry], left: Int) {
        var entries: [LogEntry] = []
        var left = 0
        for buffer in buffers {
            buffer.forEach { record in
                let reason = Int(record.reason) < reasons.count ? reasons[Int(record.reason)] : "other"
                if unwanted.contains(reason) { return }
                if entries.count < limit {
                    entries.append(entry(record, reason))
                } else {
                    left &+= 1
                }
            }
        }
        // Threads spread to several buffers.
        entries.sort { $0.time < $1.time }
        return (entries, left)
    }

    private func entry(_ record: DetailRecord, _ reason: String) -> LogEntry {
        func text(_ field: DetailBuffer.Field) -> String { StoredText.string(record.text(field)) }
        let isKnown = record.slot > 0 && Int(record.slot) < domains.count
        return LogEntry(
            id: 0, time: Timestamp.date(milliseconds: record.time), outcome: record.outcome, observed: record.observed,
            reason: reason, recipient: text(.recipient),
            domain: isKnown ? domains[Int(record.slot)] : text(.domainName), sender: text(.sender),
            client: record.client.clientText, clientName: text(.clientName), helo: text(.helo),
            session: text(.session), authenticated: record.authenticated, mta: text(.mta), reply: text(.reply))
    }
}
