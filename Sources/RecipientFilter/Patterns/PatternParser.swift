import Foundation

/// A set of bytes.
struct ByteSet: Sendable, Hashable {
    private var words: InlineArray<4, UInt64> = InlineArray(repeating: 0)

    init(_ ranges: ClosedRange<UInt8>...) {
        for range in ranges { for byte in range { insert(byte) } }
    }

    mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }

    func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 != 0 }

    mutating func formUnion(_ other: ByteSet) {
        for index in words.indices { words[index] |= other.words[index] }
    }

    /// The ASCII bytes that aren't in the set.
    var otherASCII: ByteSet {
        var set = ByteSet()
        for byte in 0...0x7f as ClosedRange<UInt8> where !contains(byte) { set.insert(byte) }
        return set
    }

    static func == (left: ByteSet, right: ByteSet) -> Bool {
        left.words.indices.allSatisfy { left.words[$0] == right.words[$0] }
    }

    func hash(into hasher: inout Hasher) {
        for index in words.indices { hasher.combine(words[index]) }
    }
}

/// A regular expression as a tree.
indirect enum PatternNode: Sendable {
    case bytes(ByteSet)
    case sequence([PatternNode])
    case choice([PatternNode])
    /// A repeat, from `minimum` to `maximum` times; a `maximum` of nil sets no upper limit.
    case repeated(PatternNode, minimum: Int, maximum: Int?)
    /// The anchors `^` and `$`: the beginning and the end of the address.
    case start, end

    /// The number of states of the expression with all counted repeats written out; `Int.max` if it overflows.
    var size: Int {
        switch self {
        case .bytes, .start, .end: return 1
        case .sequence(let parts): return parts.reduce(0) { Self.sum($0, $1.size) }
        case .choice(let branches): return branches.reduce(branches.count - 1) { Self.sum($0, $1.size) }
        case .repeated(let inner, let minimum, let maximum):
            let size = inner.size
            if size == 0 { return 0 }
            let optional = maximum.map { $0 - minimum } ?? 1
            return Self.sum(Self.product(minimum, size), Self.product(optional, Self.sum(size, 1)))
        }
    }

    private static func sum(_ first: Int, _ second: Int) -> Int {
        let (sum, isOver) = first.addingReportingOverflow(second)
        return isOver ? .max : sum
    }

    private static func product(_ first: Int, _ second: Int) -> Int {
        let (product, isOver) = first.multipliedReportingOverflow(by: second)
        return isOver ? .max : product
    }

    /// Any character outside the set: another ASCII character, or a UTF-8 sequence of several bytes.
    static func character(otherThan excluded: ByteSet) -> PatternNode {
        let tail = PatternNode.bytes(ByteSet(0x80...0xbf))
        return .choice([
            .bytes(excluded.otherASCII),
            .sequence([.bytes(ByteSet(0xc2...0xdf)), tail]),
            .sequence([.bytes(ByteSet(0xe0...0xef)), tail, tail]),
            .sequence([.bytes(ByteSet(0xf0...0xf4)), tail, tail, tail]),
        ])
    }
}

/// Parses the text of a pattern.
struct PatternParser {
    private static let maximumLength = 1_000
    private static let maximumDepth = 50
    private static let maximumRepeats = 254

    private let text: [UnicodeScalar]
    private var next = 0
    private var depth = 0

    init(_ text: String) { self.text = Array(text.precomposedStringWithCanonicalMapping.unicodeScalars) }

    mutating func parse() throws(PatternError) -> PatternNode {
        guard text.count <= Self.maximumLength else {
            throw PatternError("is \(text.count) characters long; accepted: at most \(Self.maximumLength)")
        }
        let node = try choice()
        guard next == text.count else { throw PatternError("has a ) without a (; accepted: pairs, or \\)") }
        return node
    }

    private var current: UnicodeScalar? { next < text.count ? text[next] : nil }

    private mutating func take(_ scalar: UnicodeScalar) -> Bool {
        guard current == scalar else { return false }
        next += 1
        return true
    }

    private mutating func choice() throws(PatternError) -> PatternNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maximumDepth else {
            throw PatternError("is nested too deeply; accepted: at most \(Self.maximumDepth) levels of brackets")
        }
        var branches = [try sequence()]
        while take("|") { branches.append(try sequence()) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(PatternError) -> PatternNode {
        var parts: [PatternNode] = []
        while let scalar = current, scalar != "|", scalar != ")" { parts.append(try repeated()) }
        return parts.count == 1 ? parts[0] : .sequence(parts)
    }

    private mutating func repeated() throws(PatternError) -> PatternNode {
        let node = try atom()
        guard let (minimum, maximum) = try quantifier() else { return node }
        switch node {
        case .start, .end: throw PatternError("repeats ^ or $; accepted: ^ and $ without a repeat")
        default: break
        }
        // Greedy and lazy repeats match the same addresses.
        _ = take("?")
        if current == "+" || current == "*" || current == "{" || current == "?" {
            throw PatternError(
                "repeats a repeat; accepted: one of ? * + {2,5} after a character, or brackets around the inner repeat")
        }
        return .repeated(node, minimum: minimum, maximum: maximum)
    }

    private mutating func quantifier() throws(PatternError) -> (Int, Int?)? {
        if take("*") { return (0, nil) }
        if take("+") { return (1, nil) }
        if take("?") { return (0, 1) }
        guard take("{") else { return nil }
        let fault = PatternError(
            "has a { that doesn't begin a repeat; accepted: {3}, {2,}, {2,5} of at most \(Self.maximumRepeats), or \\{")
        let minimum = number()
        var maximum = minimum
        if take(",") {
            maximum = number()
            guard minimum != nil else { throw fault }
        }
        guard let minimum, take("}"), minimum <= Self.maximumRepeats, maximum ?? 0 <= Self.maximumRepeats,
            minimum <= maximum ?? .max
        else { throw fault }
        return (minimum, maximum)
    }

    /// A number of at most four digits.
    private mutating func number() -> Int? {
        var value: Int?
        var digits = 0
        while let scalar = current,
            let digit = scalar.properties.numericType == .decimal && scalar.isASCII ? Int(scalar.value) - 0x30 : nil,
            digits < 4
        {
            value = (value ?? 0) * 10 + digit
            digits += 1
            next += 1
        }
        return value
    }

    private mutating func atom() throws(PatternError) -> PatternNode {
        guard let scalar = current else { return .sequence([]) }
        next += 1
        switch scalar {
        case "^": return .start
        case "$": return .end
        case ".": return .character(otherThan: ByteSet())
        case "(": return try group()
        case "[": return try characterClass()
        case "\\": return try escape()
        case "*", "+", "?", "{": throw PatternError("has a \(scalar) with nothing to repeat; accepted: \\\(scalar)")
        default: return Self.literal(scalar)
        }
    }

    private mutating func group() throws(PatternError) -> PatternNode {
        if take("?") {
            guard take(":") else {
                throw PatternError(
                    "has an unsupported group (?; accepted: (…) and (?:…); "
                        + "letters match in either case")
            }
        }
        let node = try choice()
        guard take(")") else { throw PatternError("has a ( without a ); accepted: pairs, or \\(") }
        return node
    }

    /// A character in lower case, as in canonical addresses.
    private static func literal(_ scalar: UnicodeScalar) -> PatternNode {
        let bytes = Array(String(scalar).lowercased().utf8)
        return bytes.count == 1
            ? .bytes(ByteSet(bytes[0]...bytes[0])) : .sequence(bytes.map { .bytes(ByteSet($0...$0)) })
    }

    private mutating func escape() throws(PatternError) -> PatternNode {
        guard let scalar = current else { throw PatternError("ends in a \\; accepted: \\\\ for a backslash") }
        next += 1
        if let set = Self.named[scalar] { return .bytes(set) }
        if scalar.isASCII, let small = scalar.properties.lowercaseMapping.unicodeScalars.first, small != scalar,
            let set = Self.named[small]
        {
            return .character(otherThan: set)
        }
        guard !scalar.properties.isAlphabetic, scalar.properties.numericType == nil else {
            throw PatternError(
                "has \\\(scalar); accepted: \\d \\w \\s \\D \\W \\S, and \\ before a punctuation character")
        }
        return Self.literal(scalar)
    }

    private static let digits = ByteSet(0x30...0x39)
    private static let letters = ByteSet(0x61...0x7a)
    private static let lettersAndDigits = ByteSet(0x30...0x39, 0x61...0x7a)
    private static let named: [UnicodeScalar: ByteSet] = [
        "d": digits, "w": ByteSet(0x30...0x39, 0x61...0x7a, 0x5f...0x5f), "s": ByteSet(0x20...0x20, 0x09...0x0d),
    ]
    private static let posix: [String: ByteSet] = [
        "alpha": letters, "lower": letters, "upper": letters, "digit": digits, "alnum": lettersAndDigits,
        "xdigit": ByteSet(0x30...0x39, 0x61...0x66), "space": ByteSet(0x20...0x20, 0x09...0x0d),
        "punct": ByteSet(0x21...0x2f, 0x3a...0x40, 0x5b...0x60, 0x7b...0x7e),
    ]

    private mutating func characterClass() throws(PatternError) -> PatternNode {
        let isNegated = take("^")
        var set = ByteSet()
        var isFirst = true
        while true {
            guard let scalar = current else { throw PatternError("has a [ without a ]; accepted: pairs, or \\[") }
            if scalar == "]" && !isFirst { break }
            isFirst = false
            if let named = try namedSet() {
                set.formUnion(named)
                continue
            }
            let low = try classByte()
            guard current == "-", next + 1 < text.count, text[next + 1] != "]" else {
                Self.insert(low...low, &set)
                continue
            }
            next += 1
            let high = try classByte()
            guard low <= high else {
                throw PatternError(
                    "has the range \(UnicodeScalar(low))-\(UnicodeScalar(high)), whose end is before its start; accepted: a-z, or \\-"
                )
            }
            Self.insert(low...high, &set)
        }
        next += 1
        return isNegated ? .character(otherThan: set) : .bytes(set)
    }

    /// `\d`, `\w`, `\s` or `[:name:]` within brackets.
    private mutating func namedSet() throws(PatternError) -> ByteSet? {
        if current == "\\", next + 1 < text.count, let set = Self.named[text[next + 1]] {
            next += 2
            return set
        }
        guard current == "[", next + 1 < text.count, text[next + 1] == ":" else { return nil }
        let name = text[(next + 2)...].prefix { $0 != ":" }
        let end = next + 2 + name.count
        guard end + 1 < text.count, text[end + 1] == "]",
            let set = Self.posix[String(String.UnicodeScalarView(name))]
        else {
            throw PatternError(
                "has an unknown class; accepted: \(Self.posix.keys.sorted().joined(separator: ", "))")
        }
        next = end + 2
        return set
    }

    private mutating func classByte() throws(PatternError) -> UInt8 {
        if current == "\\" {
            next += 1
            guard let scalar = current, !scalar.properties.isAlphabetic, scalar.properties.numericType == nil else {
                throw PatternError("has \\ before a letter, a digit or nothing in brackets; accepted: \\d \\w \\s, \\]")
            }
        }
        guard let scalar = current else { throw PatternError("has a [ without a ]; accepted: pairs, or \\[") }
        guard scalar.isASCII else {
            throw PatternError("has \(scalar) in brackets; accepted: ASCII characters; other characters as in (ä|ö)")
        }
        next += 1
        return UInt8(truncatingIfNeeded: scalar.value)
    }

    /// Adds the bytes of the range, upper-case letters as lower-case: canonical addresses are in lower case.
    private static func insert(_ range: ClosedRange<UInt8>, _ set: inout ByteSet) {
        for byte in range { set.insert((0x41...0x5a).contains(byte) ? byte | 0x20 : byte) }
    }
}
