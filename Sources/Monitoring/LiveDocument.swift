import Foundation
import RecipientSync
import RejectionLog
import System

/// The document that the live page asks for every few seconds, `/live.json`. Its texts come from strangers: the page shows them as text only.
struct LiveDocument: Encodable {
    /// The sync and its sources.
    struct Sync: Encodable {
        /// A source of the list in use.
        struct Source: Encodable {
            var name: String
            var type: String
            var recipients: Int
            var asOf: Date
            var server: String?
            var method: String?
            var failure: String?
        }

        var sources: [Source]
        /// Whether a guard refuses the newest list.
        var refused: Bool

        init(_ status: SyncStatus) {
            sources = status.sources.map { source in
                Source(
                    name: source.name, type: source.type, recipients: source.recipients, asOf: source.asOf,
                    server: source.server, method: source.method, failure: status.failures[source.name]?.text)
            }
            refused = status.refusal != nil
        }
    }

    var now: Date
    var troubles: [Trouble]
    var filter: FilterStatus
    var sync: Sync?
    /// The verdicts of the last sixty minutes, oldest first; the last minute isn't over.
    var minutes: [RejectionReader.Verdicts] = []
    /// The newest refusals, newest first, as `postern log` shows them: invisible characters are spelled out.
    var newest: [LogEntry] = []

    /// The document as JSON; it contains no character that means something in HTML.
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
