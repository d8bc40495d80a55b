import Foundation

/// Says in sentences what a postmaster should look at, most pressing first; each with what to do about it, for readers who
/// have never seen Postern.
struct ReportFindings {
    let report: RejectionReport
    let analysis: ReportAnalysis.Sums
    /// How many senders of relay domains aren't listed.
    let unlistedSenders: Int

    private typealias Finding = RejectionReport.Finding

    func findings() -> [RejectionReport.Finding] {
        let problems = [unlisted(), syncRefused(), staleIndex(), noIndex(), lateSync()] + sources()
        let notices = [nearMisses(), harvests(), correspondents(), observed(), surge(), mta(), thinned()]
        return (problems + notices).compactMap(\.self)
    }

    private func problem(_ code: String, _ text: String, _ action: String) -> Finding {
        Finding(level: .problem, code: code, text: text, action: action)
    }

    private func notice(_ code: String, _ text: String, _ action: String) -> Finding {
        Finding(level: .notice, code: code, text: text, action: action)
    }

    // MARK: The list of recipients

    private func unlisted() -> Finding? {
        guard unlistedSenders > 0 else { return nil }
        let isOne = unlistedSenders == 1
        return problem(
            "unlisted-senders",
            "\(ReportWords.count(unlistedSenders, "address", plural: "addresses")) of yours \(isOne ? "sends" : "send") mail, and "
                + "\(isOne ? "its" : "their") answers are refused: the list of recipients doesn't have \(isOne ? "it" : "them").",
            "Find the source that should list them: \"postern check ADDRESS\"; meanwhile policy.unlisted_sender = \"defer\" has the "
                + "answers wait.")
    }

    private func syncRefused() -> Finding? {
        guard let refused = report.sync?.refused else { return nil }
        return problem(
            "sync-refused",
            "The newest list of recipients was held back, because \(ReportWords.count(refused.removed, "recipient")) would have "
                + "vanished from it; the list before it stays in use, and changes since don't take effect.",
            refused.acceptable
                ? "See what would go with \"postern sync --dry-run\"; if it is meant, run \"postern sync --accept-shrink\"."
                : "See why with \"postern sync --dry-run\", and mend the directory or the limits in [sync].")
    }

    private func sources() -> [Finding?] {
        (report.sync?.sources ?? []).map { source in
            guard let failure = source.failure else { return nil }
            return problem(
                "source-failing",
                "The recipients of \"\(source.name)\" can't be read (\(failure)); "
                    + "its last list stays in use, so new mailboxes are refused and old ones accepted.",
                "Run \"postern sync --once\" to see the error, and check the server, its certificate and the password.")
        }
    }

    private func staleIndex() -> Finding? {
        guard let sync = report.sync else { return nil }
        if sync.ahead > 0 {
            return problem(
                "index-stale",
                "The list of recipients is dated \(ReportWords.duration(sync.ahead)) in the future, so that nobody knows how old it is.",
                "Set the clock of this machine, or of the one that makes the list, and run \"postern sync --once\" there."
            )
        }
        guard sync.isStale else { return nil }
        return problem(
            "index-stale",
            "The list of recipients is \(ReportWords.duration(sync.age)) old, older than it may be (index.max_age): "
                + "mailboxes made since then are refused.",
            "Run \"postern status\" to see whether the sync runs, and \"postern sync --once\" to try it now.")
    }

    private func noIndex() -> Finding? {
        let count = (report.byReason["no-index"] ?? 0) &+ (report.byReason["stale-index"] ?? 0)
        guard count > 0 else { return nil }
        return problem(
            "tempfailed",
            "\(ReportWords.count(count, "recipient")) could not be judged, because there was no usable list of recipients; "
                + "their senders were put off and try again.",
            "Run \"postern status\"; a list is made by \"postern sync --once\".")
    }

    private func lateSync() -> Finding? {
        guard analysis.listedNow > 0 else { return nil }
        return problem(
            "late-sync",
            "\(ReportWords.count(analysis.listedNow, "recipient")) \(analysis.listedNow == 1 ? "was" : "were") refused "
                + "(\(ReportWords.count(analysis.listedNowAttempts, "time"))) and \(analysis.listedNow == 1 ? "is" : "are") in the list "
                + "now: the list came up to \(ReportWords.duration(analysis.latest)) late.",
            "Have the senders try again, and shorten sync.interval if this goes on; \"postern check ADDRESS\" shows how an "
                + "address is judged now.")
    }

    // MARK: Senders

    private func nearMisses() -> Finding? {
        guard analysis.nearMisses > 0 else { return nil }
        return notice(
            "near-misses",
            "\(ReportWords.count(analysis.nearMisses, "refused address", plural: "refused addresses")) "
                + "\(analysis.nearMisses == 1 ? "looks" : "look") like a misspelling of an existing one "
                + "(\(ReportWords.count(analysis.nearMissAttempts, "attempt"))).",
            "Look through the near misses: tell the senders, or give a renamed mailbox its old address as an alias.")
    }

    private func harvests() -> Finding? {
        guard analysis.harvestNetworks > 0 else { return nil }
        let open = analysis.harvestStopped == 0
        return notice(
            "harvest",
            "\(ReportWords.count(analysis.harvestNetworks, "client network")) guessed recipients, with "
                + "\(ReportWords.count(analysis.harvestAttempts, "attempt")); "
                + (open
                    ? "nothing slowed them down."
                    : "\(ReportWords.grouped(analysis.harvestStopped)) of these met the harvest limit."),
            (open ? "Nothing got through; set harvest.limit lower to slow them down. " : "Nothing to do. ") + blocking)
    }

    /// Which networks may be blocked: a provider's has customers who write to listed recipients, too.
    private var blocking: String {
        let (only, all) = (analysis.harvestOnly, analysis.harvestNetworks)
        guard only > 0 else {
            return "Don't block them in the firewall: recipients were accepted from them, too, or may have been."
        }
        if only == all {
            return "Nothing was accepted from them: those that come every day can be blocked in the firewall."
        }
        return
            "Of those from which nothing was accepted (\(ReportWords.grouped(only))), the ones that come every day can be blocked in "
            + "the firewall; the others have customers who write to you."
    }

    private func correspondents() -> Finding? {
        guard analysis.correspondents > 0 else { return nil }
        return notice(
            "correspondents",
            "\(ReportWords.count(analysis.correspondents, "sender")) \(analysis.correspondents == 1 ? "keeps" : "keep") writing to a "
                + "recipient that doesn't exist, a little on several days, as people do who don't know that somebody left.",
            "Ask whether the recipient should be forwarded to a successor: \"postern check ADDRESS\" shows the address's state."
        )
    }

    // MARK: The rest

    private func observed() -> Finding? {
        guard report.totals.observed > 0 else { return nil }
        return notice(
            "observed",
            "\(ReportWords.count(report.totals.observed, "recipient")) \(report.totals.observed == 1 ? "was" : "were") let through that "
                + "Postern would have refused: observe mode is on.",
            "If the near misses and lists below hold nobody who should get mail, set mode = \"enforce\" in [policy].")
    }

    private func surge() -> Finding? {
        guard let previous = report.previous else { return nil }
        let (now, before) = (report.totals.refused, previous.totals.refused)
        guard now >= 1_000, now / 3 >= max(before, 1) else { return nil }
        return notice(
            "surge",
            "\(ReportWords.grouped(now)) recipients were refused, against \(ReportWords.grouped(before)) in the period before.",
            "See who they were with \"postern report --by network\" and \"postern report --by reason\".")
    }

    private func mta() -> Finding? {
        let count = report.totals.mtaRefused
        let all = report.totals.refused &+ report.totals.tempfailed
        guard count > 0, Double(count) * 10 >= Double(all) else { return nil }
        return notice(
            "mta",
            "\(ReportWords.count(count, "recipient")) \(count == 1 ? "was" : "were") refused by the MTA itself, before Postern was "
                + "asked.",
            "See its replies below: blocklists and sender checks are meant; anything else is in the MTA's own log.")
    }

    private func thinned() -> Finding? {
        guard report.totals.thinned > 0 else { return nil }
        return notice(
            "thinned",
            "A flood came: \(ReportWords.count(report.totals.thinned, "refusal")) \(report.totals.thinned == 1 ? "is" : "are") "
                + "counted but not in the lists.",
            "Nothing to do; the totals are exact.")
    }
}
