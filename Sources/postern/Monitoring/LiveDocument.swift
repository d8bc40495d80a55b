import Foundation
import RecipientSync
import RejectionLog
import RejectionReport

/// What the live page asks for every few seconds, `/live.json`. Its texts are hostile: the page shows them as text only.
struct LiveDocument: Encodable {
    struct Sync: Encodable {
        var sources: [SourceState]
        var refused: Bool

        init(_ status: SyncStatus) {
            sources = status.sources
            refused = status.refusal != nil
        }
    }

    var now: Date
    var troubles: [Trouble]
    var filter: FilterFigures
    var sync: Sync?
    /// The verdicts of the last sixty minutes, the oldest first; the last minute isn't over.
    var minutes: [RejectionReader.Verdicts] = []
    /// The newest refusals, the newest first, as `postern log` has them, with what isn't plainly visible spelled out.
    var newest: [LogEntry] = []

    /// The document; no character of it means anything to HTML.
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
