/// Patterns as a table: a step for each byte of an address, whatever the patterns.
struct PatternAutomaton: Sendable {
    /// Bounds of a table: it takes at most half a megabyte, and is made in some hundredths of a second.
    private static let maximumStates = 2_000
    private static let maximumEntries = 262_144
    private static let maximumWork = 500_000

    /// Bytes that no pattern tells apart are of one class.
    private let classes: [UInt8]
    private let classCount: Int
    /// The next state by state and class.
    private let table: [UInt16]
    /// The first pattern that matches if the address ends in this state; -1: none.
    private let matches: [Int32]
    /// Whether no byte leads out of the state.
    private let isFinal: [Bool]

    /// The table of a program; nil when it would be too large.
    init?(_ program: PatternProgram) {
        let (classes, representatives) = Self.classes(of: program)
        var numbers: [[Int]: UInt16] = [:]
        var sets: [[Int]] = []
        var table: [UInt16] = []
        var isFinal: [Bool] = []
        var marks = PatternProgram.Marks(for: program)
        let initial = program.closure(program.entries, isAtStart: true, isAtEnd: false, &marks)
        // A pattern may begin anywhere, but for what ^ holds back.
        let anywhere = program.closure(program.entries, isAtStart: false, isAtEnd: false, &marks)
        sets.append(initial)
        var matches = [Int32(program.matchAtEnd(initial, isAtStart: true, &marks) ?? -1)]
        // The first state isn't in `numbers`: at the end of an empty text ^$ holds, later it doesn't.
        var next = 0
        while next < sets.count {
            guard marks.work < Self.maximumWork else { return nil }
            var leaves = false
            for byte in representatives {
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
                    guard sets.count < Self.maximumStates,
                        (sets.count + 1) * representatives.count <= Self.maximumEntries
                    else { return nil }
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

    /// The class of each byte, and a byte of each class.
    private static func classes(of program: PatternProgram) -> (classes: [UInt8], representatives: [UInt8]) {
        var classes = [UInt8](repeating: 0, count: 256)
        for case .bytes(let set, _) in program.states {
            var renamed: [Int: UInt8] = [:]
            for byte in 0...255 as ClosedRange<UInt8> {
                let key = Int(classes[Int(byte)]) << 1 | (set.contains(byte) ? 1 : 0)
                let name = renamed[key] ?? UInt8(truncatingIfNeeded: renamed.count)
                renamed[key] = name
                classes[Int(byte)] = name
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
