/// What the patterns of one configuration may take together: time to compile, and memory.
public struct PatternBudget: Sendable {
    /// About a second of the processor.
    private let maximumSteps: Int
    private static let maximumBytes = 16 << 20

    /// How often a state was looked at, for expressions that were refused too.
    public internal(set) var steps = 0
    /// The memory of the tables of those that were compiled.
    public internal(set) var bytes = 0

    /// What all patterns of a configuration may take.
    public init() { self.init(maximumSteps: 10_000_000) }

    init(maximumSteps: Int) { self.maximumSteps = maximumSteps }

    var remainingSteps: Int { max(0, maximumSteps - steps) }
    var remainingBytes: Int { max(0, Self.maximumBytes - bytes) }

    /// Of the pattern that would pass the bounds.
    var error: PatternError {
        PatternError(
            "is too large beside the other patterns: accepted are tables of \(Self.maximumBytes >> 20) MiB for all together, "
                + "made in \(maximumSteps) steps; use fewer patterns, or smaller counted repeats such as .{20}")
    }
}
