/// Patterns as a table of states (a deterministic automaton), which matches an address in one step for each byte.
struct PatternAutomaton: Sendable {
    /// Limits of a table: at most half a megabyte, made in some hundredths of a second.
    private static let maximumStates = 2_000
    private static let maximumEntries = 262_144
    private static let maximumSteps = 500_000

    /// The class of each byte. Bytes that all patterns treat alike have the same class.
    private let classes: [UInt8]
    private let classCount: Int
    /// The next state by state and class.
    private let table: [UInt16]
    /// For each state, the first pattern that matches if the address ends there; -1 for none.
    private let matches: [Int32]
    /// For each state, whether all bytes lead back to it.
    private let isFinal: [Bool]

    /// Makes the table of a program; throws as soon as the table would be too large. The budget counts the steps in either case.
    init(_ program: PatternProgram, _ budget: inout PatternBudget) throws(PatternError) {
        let (classes, representatives) = Self.classes(of: program)
        var numbers: [[Int]: UInt16] = [:]
        var sets: [[Int]] = []
        var table: [UInt16] = []
        var isFinal: [Bool] = []
        var marks = PatternProgram.Marks(for: program)
        defer { budget.steps += marks.work }
        let maximumSteps = min(Self.maximumSteps, budget.remainingSteps)
        let initial = program.closure(program.entries, isAtStart: true, isAtEnd: false, &marks)
        // A match may begin at any byte, unless the pattern begins with ^.
        let anywhere = program.closure(program.entries, isAtStart: false, isAtEnd: false, &marks)
        sets.append(initial)
        var matches = [Int32(program.matchAtEnd(initial, isAtStart: true, &marks) ?? -1)]
        // The first state isn't in `numbers`: ^$ matches in it, and in no later state.
        var next = 0
        while next < sets.count {
            var leaves = false
            for byte in representatives {
                guard marks.work < maximumSteps else {
                    throw maximumSteps < Self.maximumSteps
                        ? budget.error : Self.error("it takes more than \(Self.maximumSteps) steps to make")
                }
                var seeds = anywhere
                for number in sets[next] {
                    switch program.states[number] {
                    case .bytes(let set, let follower): if set.contains(byte) { seeds.append(follower) }
                    case .match: seeds.append(number)
                    case .split, .start, .end: break
                    }
                }
                let set = program.closure(seeds, isAtStart: false, isAtEnd: false, &marks)
                let number: UInt16
                if let known = numbers[set] {
                    number = known
                } else {
                    guard sets.count < Self.maximumStates else {
                        throw Self.error("more than \(Self.maximumStates) states")
                    }
                    guard (sets.count + 1) * representatives.count <= Self.maximumEntries else {
                        throw Self.error("more than \(Self.maximumEntries) entries")
                    }
                    number = UInt16(truncatingIfNeeded: sets.count)
                    numbers[set] = number
                    sets.append(set)
                    matches.append(Int32(program.matchAtEnd(set, isAtStart: false, &marks) ?? -1))
                }
                if Int(number) != next { leaves = true }
                table.append(number)
            }
            isFinal.append(!leaves)
            next += 1
        }
        self.classes = classes
        classCount = representatives.count
        self.table = table
        self.matches = matches
        self.isFinal = isFinal
    }

    private static func error(_ reason: String) -> PatternError {
        PatternError(
            "needs too large a table: \(reason); "
                + "accepted: expressions with fewer or smaller counted repeats such as .{20}")
    }

    /// The memory of the table, in bytes.
    var byteCount: Int { table.count * 2 + matches.count * 5 + 256 }

    /// The class of each byte, and a byte of each class.
    private static func classes(of program: PatternProgram) -> (classes: [UInt8], representatives: [UInt8]) {
        var classes = [UInt8](repeating: 0, count: 256)
        var seen: Set<ByteSet> = []
        for case .bytes(let set, _) in program.states where seen.insert(set).inserted {
            var renamed = [Int16](repeating: -1, count: 512)
            var count: Int16 = 0
            for byte in 0...255 as ClosedRange<UInt8> {
                let key = Int(classes[Int(byte)]) << 1 | (set.contains(byte) ? 1 : 0)
                if renamed[key] < 0 {
                    renamed[key] = count
                    count += 1
                }
                classes[Int(byte)] = UInt8(truncatingIfNeeded: renamed[key])
            }
        }
        var representatives: [UInt8] = []
        for byte in 0...255 as ClosedRange<UInt8> where Int(classes[Int(byte)]) == representatives.count {
            representatives.append(byte)
        }
        return (classes, representatives)
    }

    /// Whether every text matches a pattern.
    var matchesAll: Bool { matches.allSatisfy { $0 >= 0 } }

    /// The number of the first pattern that matches the text; nil if none does.
    func match(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
        var state = 0
        for byte in text {
            state = Int(table[state &* classCount &+ Int(classes[Int(byte)])])
            if isFinal[state] { break }
        }
        let match = matches[state]
        return match < 0 ? nil : Int(match)
    }
}

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
            // A repeat of the empty text is the empty text.
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

    /// A set of states that is emptied without visiting its elements: a state is in it if its round is the current one.
    struct Marks {
        private var rounds: [UInt32]
        private var round: UInt32 = 0
        /// The number of calls of ``insert(_:)``.
        private(set) var work = 0

        init(for program: PatternProgram) { rounds = [UInt32](repeating: 0, count: program.states.count) }

        mutating func clear() { round &+= 1 }

        /// Adds a state; returns false if it was in the set.
        mutating func insert(_ state: Int) -> Bool {
            work &+= 1
            if rounds[state] == round { return false }
            rounds[state] = round
            return true
        }
    }

    /// The states that can be reached from the seeds without reading a byte, sorted, without the states that only lead to others.
    ///
    /// - Parameters:
    ///   - isAtStart: whether nothing has been read yet.
    ///   - isAtEnd: whether the text has ended.
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

    /// The states without those of patterns after the first that has matched: they no longer count.
    private func pruned(_ kept: [Int]) -> [Int] {
        guard let first = firstMatch(in: kept) else { return kept.sorted() }
        return kept.filter { number in
            if case .match(let pattern) = states[number] { return pattern == first }
            return owners[number] < first
        }.sorted()
    }

    /// The first pattern that matches if the text ends in these states.
    func matchAtEnd(_ set: [Int], isAtStart: Bool, _ marks: inout Marks) -> Int? {
        firstMatch(in: closure(set, isAtStart: isAtStart, isAtEnd: true, &marks))
    }

    /// The first pattern that one of these states matches.
    private func firstMatch(in set: [Int]) -> Int? {
        set.lazy.compactMap { if case .match(let pattern) = states[$0] { pattern } else { nil as Int? } }.min()
    }
}
