/// Something that the postmaster should look at, with what to do about it: for readers who have never seen Postern.
public struct ReportFinding: Sendable, Equatable {
    /// How pressing a finding is.
    public enum Level: String, Sendable {
        /// Mail that should have arrived is rejected, or the filter doesn't work as it should.
        case problem
        /// Worth a look.
        case notice
    }

    /// The kind of a finding, a word for programs; the most pressing first.
    public enum Code: String, Sendable, CaseIterable {
        case unlistedSenders = "unlisted-senders"
        case syncRefused = "sync-refused"
        case indexStale = "index-stale"
        case tempfailed
        case lateSync = "late-sync"
        case sourceFailing = "source-failing"
        case nearMisses = "near-misses"
        case harvest, correspondents, observed, surge, mta, thinned

        /// How pressing it is.
        public var level: Level {
            switch self {
            case .unlistedSenders, .syncRefused, .indexStale, .tempfailed, .lateSync, .sourceFailing: .problem
            case .nearMisses, .harvest, .correspondents, .observed, .surge, .mta, .thinned: .notice
            }
        }
    }

    /// The kind of the finding.
    public var code: Code
    /// What was found, in a sentence or two.
    public var text: String
    /// What to do about it; a command where there is one.
    public var action: String

    /// A finding.
    public init(_ code: Code, _ text: String, _ action: String) {
        self.code = code
        self.text = text
        self.action = action
    }

    /// How pressing the finding is.
    public var level: Level { code.level }
}
