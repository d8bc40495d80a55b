/// What the MTA is told of a recipient (libmilter's `SMFIS_` values).
///
/// For a refusal with a text of its own return what ``MilterContext/refuse(code:enhancedCode:text:)`` returns.
public enum MilterResponse: Sendable, Equatable {
    /// Go on: the recipient is fine as far as this filter knows.
    case `continue`
    /// Take the whole message without asking this filter again.
    case accept
    /// Refuse for good, with the MTA's own 5xx reply or the one set.
    case reject
    /// Refuse for now, with the MTA's own 4xx reply or the one set.
    case tempfail
    /// Take the whole message and throw it away in silence.
    case discard
}
