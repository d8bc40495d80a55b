/// The reason why a text isn't a valid pattern.
public struct PatternError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The fault, and the accepted values.
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A regular expression that accepts or blocks the recipients that it matches.
///
/// The expression may match anywhere in the canonical address (`local@domain` in lower case, the domain as A-labels); `^` and `$` match the
/// address's beginning and end. The syntax is the part of the usual one that a finite automaton can match in one step for each byte:
/// `.` `[a-z]` `[^0-9]` `\d` `\w` `[[:digit:]]` `(…|…)` `(?:…)` `?` `*` `+` `{2,5}`, without back-references and look-around. Letters match
/// in either case.
public struct RecipientPattern: Sendable {
    /// The verdict on a recipient that matches.
    public enum Action: String, Sendable, CaseIterable {
        /// The recipient is accepted, even if it isn't listed.
        case accept
        /// The recipient is rejected, even if it is listed.
        case block
    }

    /// The expression as the configuration has it.
    public let text: String
    /// The verdict on a recipient that matches.
    public let action: Action
    let node: PatternNode
    /// The table of this expression alone; ``PatternSet`` has tables of several.
    let automaton: PatternAutomaton

    /// The most states of one expression: with more, making the table would take too long.
    private static let maximumSize = 2_000

    /// Checks and compiles an expression by itself.
    public init(_ text: String, action: Action) throws(PatternError) {
        var budget = PatternBudget()
        try self.init(text, action: action, &budget)
    }

    /// Checks and compiles one of several expressions.
    ///
    /// - Parameter budget: the time and memory for all expressions. An expression that would exceed it is rejected.
    public init(_ text: String, action: Action, _ budget: inout PatternBudget) throws(PatternError) {
        self.text = text
        self.action = action
        var parser = PatternParser(text)
        node = try parser.parse()
        // One state more for the match. The repeats aren't written out yet.
        guard node.size < Self.maximumSize else {
            throw PatternError(
                "is too large: with its repeats written out, it has more than \(Self.maximumSize) parts; "
                    + "accepted: expressions with fewer or smaller counted repeats such as (…){100}")
        }
        let automaton = try PatternAutomaton(PatternProgram([node]), &budget)
        guard !automaton.matchesAll else {
            throw PatternError(
                "matches every recipient; accepted: expressions that match only some (to accept all, set catch_all of a [[domain]])"
            )
        }
        guard automaton.byteCount <= budget.remainingBytes else { throw budget.error }
        budget.bytes += automaton.byteCount
        self.automaton = automaton
    }
}

/// Several patterns, of which the first that matches counts. Matching takes no lock and allocates nothing.
struct PatternSet: Sendable {
    private let actions: [RecipientPattern.Action]
    /// Each automaton matches the patterns from position `first` on, as many as fit in a table of bounded size.
    private let automata: [(first: Int, automaton: PatternAutomaton)]

    /// The most states of the expressions of one table: with more, the table is hardly ever small enough.
    private static let maximumSize = 10_000

    init(_ patterns: [RecipientPattern]) {
        var budget = PatternBudget(maximumSteps: 2_000_000)
        self.init(patterns, &budget)
    }

    /// - Parameter budget: the time for making common tables; once it is used up, the remaining patterns keep their own tables.
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

    /// The number of tables.
    var tableCount: Int { automata.count }

    /// The position and action of the first pattern that matches the canonical address.
    func firstMatch(_ key: UnsafeBufferPointer<UInt8>) -> (position: Int, action: RecipientPattern.Action)? {
        for (first, automaton) in automata {
            if let match = automaton.match(key) { return (first + match, actions[first + match]) }
        }
        return nil
    }
}

/// The limits for all patterns of a configuration together: time to compile, and memory.
public struct PatternBudget: Sendable {
    /// 10,000,000 steps take about a second of processor time.
    private let maximumSteps: Int
    private static let maximumBytes = 16 << 20

    /// The number of steps so far, those for rejected expressions included. A step visits one state.
    public internal(set) var steps = 0
    /// The memory of all tables so far, in bytes.
    public internal(set) var bytes = 0

    /// The limits for the patterns of a configuration, with nothing used.
    public init() { self.init(maximumSteps: 10_000_000) }

    init(maximumSteps: Int) { self.maximumSteps = maximumSteps }

    var remainingSteps: Int { max(0, maximumSteps - steps) }
    var remainingBytes: Int { max(0, Self.maximumBytes - bytes) }

    /// The error for a pattern that would exceed the limits.
    var error: PatternError {
        PatternError(
            "is too large beside the other patterns: all tables together may have \(Self.maximumBytes >> 20) MiB "
                + "and take \(maximumSteps) steps to make; use fewer patterns, or smaller counted repeats such as .{20}"
        )
    }
}
