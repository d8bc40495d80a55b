/// Why a text can't serve as a pattern, with what is accepted.
public struct PatternError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong, and what is accepted.
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A regular expression for recipients, and what becomes of those that it matches.
///
/// It is looked for anywhere in the canonical address (`local@domain`, in small letters, the domain as A-labels); `^` and `$` are
/// its beginning and end. Of the usual syntax all is there that a finite automaton can do, so that no address takes longer to
/// match than its length: `.` `[a-z]` `[^0-9]` `\d` `\w` `[[:digit:]]` `(…|…)` `(?:…)` `?` `*` `+` `{2,5}`; neither
/// back-references nor look-around. The case of letters never counts.
public struct RecipientPattern: Sendable {
    /// What becomes of a recipient that matches.
    public enum Action: String, Sendable, CaseIterable {
        /// It is accepted, whether it is listed or not.
        case accept
        /// It is refused, though it be listed.
        case block
    }

    /// The expression as it was given.
    public let text: String
    /// What becomes of a recipient that matches.
    public let action: Action
    let node: PatternNode
    /// The expression alone; see ``PatternSet`` for several.
    let automaton: PatternAutomaton

    /// The states of one expression; more would take too long to make a table of.
    private static let maximumSize = 2_000

    /// Checks and compiles an expression by itself.
    public init(_ text: String, action: Action) throws(PatternError) {
        var budget = PatternBudget()
        try self.init(text, action: action, &budget)
    }

    /// Checks and compiles one of several expressions.
    ///
    /// - Parameter budget: what all of them may take. An expression that would pass it is refused; those after it mostly are, too.
    public init(_ text: String, action: Action, _ budget: inout PatternBudget) throws(PatternError) {
        self.text = text
        self.action = action
        var parser = PatternParser(text)
        node = try parser.parse()
        // One more for the end. Nothing has been written out yet.
        guard node.size < Self.maximumSize else {
            throw PatternError(
                "is too large: with its repeats written out it has more than \(Self.maximumSize) parts; "
                    + "accepted: expressions with fewer or smaller counted repeats such as (…){100}")
        }
        let automaton = try PatternAutomaton(PatternProgram([node]), &budget)
        guard !automaton.matchesAll else {
            throw PatternError(
                "matches every recipient; accepted: what tells some from others (catch_all of a [[domain]] accepts all)"
            )
        }
        guard automaton.byteCount <= budget.remainingBytes else { throw budget.error }
        budget.bytes += automaton.byteCount
        self.automaton = automaton
    }
}

/// Several patterns at once: the first that matches counts. Immutable, compiled once, matched without a lock or an allocation.
struct PatternSet: Sendable {
    private let actions: [RecipientPattern.Action]
    /// Each for the patterns from a position on, as many as fit in a table of bounded size.
    private let automata: [(first: Int, automaton: PatternAutomaton)]

    /// The states of the expressions of one table; a table of more is hardly ever small enough.
    private static let maximumSize = 10_000

    init(_ patterns: [RecipientPattern]) {
        var budget = PatternBudget(maximumSteps: 2_000_000)
        self.init(patterns, &budget)
    }

    /// - Parameter budget: what putting patterns together may take; those that are left then keep their own tables.
    init(_ patterns: [RecipientPattern], _ budget: inout PatternBudget) {
        actions = patterns.map(\.action)
        automata = Self.automata(patterns[...], &budget)
    }

    /// One automaton for all if it isn't too large; else one for each half.
    private static func automata(
        _ patterns: ArraySlice<RecipientPattern>, _ budget: inout PatternBudget
    ) -> [(first: Int, automaton: PatternAutomaton)] {
        guard let first = patterns.first else { return [] }
        if patterns.count == 1 { return [(patterns.startIndex, first.automaton)] }
        // The sizes of patterns that have been compiled are small.
        if budget.remainingSteps > 0, patterns.reduce(0, { $0 + $1.node.size + 1 }) <= maximumSize,
            let automaton = try? PatternAutomaton(PatternProgram(patterns.map(\.node)), &budget)
        {
            return [(patterns.startIndex, automaton)]
        }
        let middle = patterns.startIndex + patterns.count / 2
        return automata(patterns[..<middle], &budget) + automata(patterns[middle...], &budget)
    }

    var isEmpty: Bool { automata.isEmpty }

    /// How many tables the patterns take.
    var tableCount: Int { automata.count }

    /// The first pattern that matches the canonical address, by its position.
    func firstMatch(_ key: UnsafeBufferPointer<UInt8>) -> (position: Int, action: RecipientPattern.Action)? {
        for (first, automaton) in automata {
            if let match = automaton.match(key) { return (first + match, actions[first + match]) }
        }
        return nil
    }
}

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
