/// Patterns as one nondeterministic automaton (Thompson's construction), from which ``PatternAutomaton`` makes its table.
struct PatternProgram {
    enum State {
        case bytes(ByteSet, Int)
        case split(Int, Int)
        case start(Int)
        case end(Int)
        /// The pattern of this number matches.
        case match(Int)
    }

    private(set) var states: [State] = []
    /// The first state of each pattern.
    private(set) var entries: [Int] = []
    /// The pattern that a state belongs to.
    private(set) var owners: [Int] = []

    /// Compiles patterns of a checked size: see ``PatternNode/size``.
    init(_ patterns: [PatternNode]) {
        for (number, pattern) in patterns.enumerated() {
            let last = append(.match(number), number)
            entries.append(compile(pattern, before: last, number))
        }
    }

    private mutating func append(_ state: State, _ owner: Int) -> Int {
        states.append(state)
        owners.append(owner)
        return states.count - 1
    }

    /// Compiles a node that goes on to the state `next`, and returns its first state.
    private mutating func compile(_ node: PatternNode, before next: Int, _ owner: Int) -> Int {
        switch node {
        case .bytes(let set): return append(.bytes(set, next), owner)
        case .start: return append(.start(next), owner)
        case .end: return append(.end(next), owner)
        case .sequence(let parts):
            var next = next
            for part in parts.reversed() { next = compile(part, before: next, owner) }
            return next
        case .choice(let branches):
            var first: Int?
            for branch in branches.reversed() {
                let entry = compile(branch, before: next, owner)
                if let other = first { first = append(.split(entry, other), owner) } else { first = entry }
            }
            return first ?? next
        case .repeated(let inner, let minimum, let maximum):
            // However often the empty text is repeated, it stays empty.
            if inner.size == 0 { return next }
            var entry = next
            if let maximum {
                for _ in minimum..<maximum {
                    entry = append(.split(compile(inner, before: entry, owner), next), owner)
                }
            } else {
                entry = append(.split(next, next), owner)
                states[entry] = .split(compile(inner, before: entry, owner), next)
            }
            for _ in 0..<minimum { entry = compile(inner, before: entry, owner) }
            return entry
        }
    }

    /// The states that have been seen, emptied in no time.
    struct Marks {
        private var rounds: [UInt32]
        private var round: UInt32 = 0
        /// How often a state was looked at, in all.
        private(set) var work = 0

        init(for program: PatternProgram) { rounds = [UInt32](repeating: 0, count: program.states.count) }

        mutating func clear() { round &+= 1 }

        /// Whether the state is a new one.
        mutating func insert(_ state: Int) -> Bool {
            work &+= 1
            if rounds[state] == round { return false }
            rounds[state] = round
            return true
        }
    }

    /// The states that can be reached without a byte and from which something follows, in order.
    ///
    /// - Parameters:
    ///   - isAtStart: whether nothing has been read yet.
    ///   - isAtEnd: whether nothing more follows.
    func closure(_ seeds: [Int], isAtStart: Bool, isAtEnd: Bool, _ marks: inout Marks) -> [Int] {
        marks.clear()
        var pending = seeds
        var kept: [Int] = []
        while let number = pending.popLast() {
            guard marks.insert(number) else { continue }
            switch states[number] {
            case .bytes, .match: kept.append(number)
            case .split(let first, let second):
                pending.append(first)
                pending.append(second)
            case .start(let next): if isAtStart { pending.append(next) }
            case .end(let next):
                kept.append(number)
                if isAtEnd { pending.append(next) }
            }
        }
        return pruned(kept)
    }

    /// Once a pattern has matched, those after it don't count.
    private func pruned(_ kept: [Int]) -> [Int] {
        let first = kept.lazy.compactMap { number in
            if case .match(let pattern) = states[number] { pattern } else { nil as Int? }
        }.min()
        guard let first else { return kept.sorted() }
        return kept.filter { number in
            if case .match(let pattern) = states[number] { return pattern == first }
            return owners[number] < first
        }.sorted()
    }

    /// The first pattern that matches if the text ends in these states.
    func matchAtEnd(_ set: [Int], isAtStart: Bool, _ marks: inout Marks) -> Int? {
        closure(set, isAtStart: isAtStart, isAtEnd: true, &marks).lazy.compactMap { number in
            if case .match(let pattern) = states[number] { pattern } else { nil as Int? }
        }.min()
    }
}
