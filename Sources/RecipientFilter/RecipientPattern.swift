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

    /// Checks and compiles an expression.
    public init(_ text: String, action: Action) throws(PatternError) {
        self.text = text
        self.action = action
        var parser = PatternParser(text)
        node = try parser.parse()
        let program = try PatternProgram([node])
        guard let automaton = PatternAutomaton(program) else {
            throw PatternError(
                "needs too large a table; accepted: expressions with fewer or smaller counted repeats such as .{20}")
        }
        guard !automaton.matchesAll else {
            throw PatternError(
                "matches every recipient; accepted: what tells some from others (catch_all of a [[domain]] accepts all)"
            )
        }
        self.automaton = automaton
    }
}

/// Several patterns at once: the first that matches counts. Immutable, compiled once, matched without a lock or an allocation.
struct PatternSet: Sendable {
    private let actions: [RecipientPattern.Action]
    /// Each for the patterns from a position on, as many as fit in a table of bounded size.
    private let automata: [(first: Int, automaton: PatternAutomaton)]

    init(_ patterns: [RecipientPattern]) {
        actions = patterns.map(\.action)
        automata = Self.automata(patterns[...])
    }

    /// One automaton for all if it isn't too large; else one for each half.
    private static func automata(
        _ patterns: ArraySlice<RecipientPattern>
    ) -> [(first: Int, automaton: PatternAutomaton)] {
        guard let first = patterns.first else { return [] }
        if patterns.count == 1 { return [(patterns.startIndex, first.automaton)] }
        if let program = try? PatternProgram(patterns.map(\.node)), let automaton = PatternAutomaton(program) {
            return [(patterns.startIndex, automaton)]
        }
        let middle = patterns.startIndex + patterns.count / 2
        return automata(patterns[..<middle]) + automata(patterns[middle...])
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
