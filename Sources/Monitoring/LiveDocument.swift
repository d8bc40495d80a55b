import Foundation
import RecipientSources
import RecipientSync
import RejectionLog
import RejectionReport
import System

/// The document that the live page asks for every few seconds, `/live.json`. Its texts come from strangers: the page shows them as text only.
struct LiveDocument: Encodable {
    /// The sync and its sources.
    struct Sync: Encodable {
        /// A source of the list in use. What reading it found has addresses in it, and stays out of the page.
        struct Source: Encodable {
            let state: SourceState

            private enum CodingKeys: String, CodingKey { case name, type, recipients, asOf, server, method, failure }

            func encode(to encoder: any Encoder) throws {
                var values = encoder.container(keyedBy: CodingKeys.self)
                try values.encode(state.name, forKey: .name)
                try values.encode(state.type, forKey: .type)
                try values.encode(state.recipients, forKey: .recipients)
                try values.encodeIfPresent(state.lastSynced, forKey: .asOf)
                try values.encodeIfPresent(state.report.server, forKey: .server)
                try values.encodeIfPresent(state.report.method, forKey: .method)
                try values.encodeIfPresent(state.failure, forKey: .failure)
            }
        }

        var sources: [Source]
        /// Whether a guard refuses the newest list.
        var refused: Bool

        init(_ status: SyncStatus) {
            sources = status.sources.map(Source.init)
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
