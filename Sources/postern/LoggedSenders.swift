import Foundation
import RecipientFilter
import RejectionLog
import System

/// The unlisted senders of the log, for commands that judge as the filter does.
struct LoggedSenders {
    /// Those that count for a verdict.
    let lately = UnlistedSenders()
    private var days: [String: Int64] = [:]

    /// Reads them; without a log there are none, and one that can't be read is said where the verdict may depend on it.
    ///
    /// - Parameter isNeeded: false leaves the log alone.
    init(_ configuration: Configuration, isNeeded: Bool) {
        guard isNeeded else { return }
        let today = Int64(Date().timeIntervalSince1970) / 86_400
        do {
            let senders = try RejectionReader(path: configuration.log.database).unlistedSenders(since: .min)
            for sender in senders {
                days[sender.address] = sender.lastDay
                if sender.lastDay >= today - UnlistedSenders.days { lately.insert(sender.address, day: sender.lastDay) }
            }
        } catch {
            guard error.code != .notFound, configuration.defersUnlistedSenders else { return }
            Messages.write("note: judged without the senders of the log (policy.unlisted_sender): \(error)")
        }
    }

    /// The day on which an address last sent, as 2026-11-30; nil where it hasn't, or is listed.
    func day(of address: String) -> String? { days[address].map(Words.day) }
}
