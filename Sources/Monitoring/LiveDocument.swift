import Foundation
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// The document that the live page shows, `/live.json`.
struct LiveDocument: Encodable {
    /// The sync and its sources.
    struct Sync: Encodable {
        /// A source of the list in use. What its reading found stays out of the page, since it has addresses in it.
        struct Source: Encodable {
            let name: String
            let type: String
            let recipients: Int
            let asOf: Date?
            let server: String?
            let method: String?
            let failure: String?
        }

        let sources: [Source]
        /// Whether a guard refuses the newest list.
        let refused: Bool

        init(_ status: SyncStatus) {
            sources = status.sources.map {
                Source(
                    name: $0.name, type: $0.type, recipients: $0.recipients, asOf: $0.lastSynced,
                    server: $0.report.server, method: $0.report.method, failure: $0.failure)
            }
            refused = status.refusal != nil
        }
    }

    var now = Date()
    var troubles: [Trouble]
    var filter: FilterStatus
    var sync: Sync?
    /// The verdicts of the last sixty minutes, oldest first; the last minute isn't over.
    var minutes: [RejectionReader.Verdicts] = []
    /// The newest log entries, newest first, with invisible characters as escapes.
    var newest: [LogEntry] = []

    /// The document as JSON, in which each character that has a meaning in HTML is escaped.
    var data: Data {
        let text = (try? JSON.text(self)) ?? "{}"
        return Data(
            text.unicodeScalars.reduce(into: "") { result, scalar in
                switch scalar {
                case "<", ">", "&", "\u{2028}", "\u{2029}":
                    let code = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - code.count) + code
                default: result.unicodeScalars.append(scalar)
                }
            }.utf8)
    }
}
