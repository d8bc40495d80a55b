/// Patterns as a table: a step for each byte of an address, whatever the patterns.
struct PatternAutomaton: Sendable {
    /// Bounds of a table: it takes at most half a megabyte, and is made in some hundredths of a second.
    private static let maximumStates = 2_000
    private static let maximumEntries = 262_144
    private static let maximumSteps = 500_000

    /// Bytes that no pattern tells apart are of one class.
    private let classes: [UInt8]
    private let classCount: Int
    /// The next state by state and class.
    private let table: [UInt16]
    /// The first pattern that matches if the address ends in this state; -1: none.
    private let matches: [Int32]
    /// Whether no byte leads out of the state.
    private let isFinal: [Bool]

    /// Makes the table of a program. A table that would be too large ends in an error soon, and what was done until then is
    /// taken from the budget, too.
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
        // A pattern may begin anywhere, but for what ^ holds back.
        let anywhere = program.closure(program.entries, isAtStart: false, isAtEnd: false, &marks)
        sets.append(initial)
        var matches = [Int32(program.matchAtEnd(initial, isAtStart: true, &marks) ?? -1)]
        // The first state isn't in `numbers`: at the end of an empty text ^$ holds, later it doesn't.
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

    /// The memory that the table takes, in bytes.
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

    /// Whether some pattern is found in every text.
    var matchesAll: Bool { matches.allSatisfy { $0 >= 0 } }

    /// The number of the first pattern that is found in the text.
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
