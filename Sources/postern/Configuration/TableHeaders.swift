/// Finds the table headers of a TOML file in which no name follows the brackets, such as `[[[source]]]`: the TOML library ends the
/// process at these, where it reports every other fault.
///
/// Reads what surrounds them as far as it must: strings, comments, and arrays and tables within a value.
struct TableHeaders {
    private let bytes: [UInt8]
    private var next = 0
    private var line = 1
    /// How many brackets and braces of a value are open.
    private var depth = 0

    /// The line of the first such header.
    static func firstWithoutName(_ text: String) -> Int? {
        var headers = TableHeaders(bytes: Array(text.utf8))
        return headers.firstWithoutName()
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var current: UInt8? { next < bytes.count ? bytes[next] : nil }

    private mutating func take(_ sign: Character) -> Bool {
        guard current == sign.asciiValue else { return false }
        next += 1
        return true
    }

    private mutating func skipBlanks() { while take(" ") || take("\t") {} }

    private mutating func firstWithoutName() -> Int? {
        // A byte order mark may stand in front.
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { next = 3 }
        var isAtStart = true
        while current != nil {
            if isAtStart && depth == 0 {
                skipBlanks()
                if take("[") {
                    guard hasName() else { return line }
                    skipHeader()
                    continue
                }
            }
            isAtStart = readPiece()
        }
        return nil
    }

    /// Whether the library finds a name, or a fault that it reports.
    private mutating func hasName() -> Bool {
        let start = next
        skipBlanks()
        if current == UInt8(ascii: "[") {
            // With a blank between, they are a fault that is reported.
            if next > start { return true }
            next += 1
            skipBlanks()
        }
        // The library reports an end or a closing bracket here.
        guard let byte = current else { return true }
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            return true
        default: return "]\"'-_".utf8.contains(byte)
        }
    }

    /// The rest of a header's line, whose brackets aren't a value's.
    private mutating func skipHeader() {
        let outside = depth
        while let byte = current, byte != UInt8(ascii: "\n") { _ = readPiece() }
        depth = outside
    }

    /// Reads a string, a comment or one other byte; true after the end of a line.
    private mutating func readPiece() -> Bool {
        guard let byte = current else { return false }
        switch byte {
        case UInt8(ascii: "\n"):
            next += 1
            line += 1
            return true
        case UInt8(ascii: "#"): while let byte = current, byte != UInt8(ascii: "\n") { next += 1 }
        case UInt8(ascii: "\""), UInt8(ascii: "'"): skipString(byte)
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            depth += 1
            next += 1
        case UInt8(ascii: "]"), UInt8(ascii: "}"):
            depth = max(0, depth - 1)
            next += 1
        default: next += 1
        }
        return false
    }

    private mutating func skipString(_ quote: UInt8) {
        let isLong = bytes[next...].starts(with: [quote, quote, quote])
        next += isLong ? 3 : 1
        while let byte = current {
            if byte == UInt8(ascii: "\n") {
                // The library says that a short string isn't closed.
                guard isLong else { return }
                line += 1
            }
            next += 1
            if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
                if current == UInt8(ascii: "\n") { line += 1 }
                next += 1
            } else if byte == quote {
                guard isLong else { return }
                if bytes[next...].starts(with: [quote, quote]) {
                    next += 2
                    // Up to two quotes may stand before the closing three.
                    while current == quote { next += 1 }
                    return
                }
            }
        }
    }
}
