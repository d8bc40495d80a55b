/// Hostile text made harmless: control characters, bidirectional and other invisible characters and everything else
/// that isn't plainly visible become `\x1b` or `\u{202e}`, a backslash `\\`.
enum SafeText {
    /// The text with all characters spelled out that a terminal could act on, or a reader could overlook.
    ///
    /// - Parameter delimiters: ASCII characters that are spelled out too, because they enclose the text.
    static func escaped(_ text: String, delimiters: String = "") -> String {
        // Most texts have nothing to spell out, and looking up the properties of each scalar is slow.
        let isPlain = text.utf8.allSatisfy {
            $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") && !delimiters.utf8.contains($0)
        }
        if isPlain { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            if delimiters.unicodeScalars.contains(scalar) {
                result += code(scalar)
            } else if scalar == "\\" {
                result += "\\\\"
            } else if isVisible(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result += code(scalar)
            }
        }
        return result
    }

    /// JSON with the same values, in which characters that aren't plainly visible are written like `\u202e`.
    static func jsonEscaped(_ json: String) -> String {
        json.unicodeScalars.reduce(into: "") { result, scalar in
            if scalar.value < 0x7F || isVisible(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                for unit in UTF16.encode(scalar) ?? UTF16.EncodedScalar() {
                    let digits = String(unit, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            }
        }
    }

    /// The number of terminal columns that the escaped text fills.
    static func width(_ text: String) -> Int {
        text.unicodeScalars.reduce(0) { $0 + width($1) }
    }

    /// The escaped text in at most this number of columns, with `…` in place of an end that doesn't fit.
    static func fitted(_ text: String, _ columns: Int) -> String {
        guard columns > 0 else { return "" }
        guard width(text) > columns else { return text }
        var result = ""
        var used = 0
        for scalar in text.unicodeScalars {
            let width = width(scalar)
            guard used + width < columns else { break }
            result.unicodeScalars.append(scalar)
            used += width
        }
        return result + "…"
    }

    /// The escaped text in exactly this number of columns: fitted, or filled up with spaces.
    static func padded(_ text: String, _ columns: Int) -> String {
        let text = fitted(text, columns)
        return text + String(repeating: " ", count: max(0, columns - width(text)))
    }

    /// The escaped text in ASCII: other characters are spelled out too.
    static func ascii(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            if scalar.isASCII { result.unicodeScalars.append(scalar) } else { result += code(scalar) }
        }
    }

    /// Two hexadecimal digits.
    static func hex(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16)
        return digits.count < 2 ? "0" + digits : digits
    }

    private static func code(_ scalar: Unicode.Scalar) -> String {
        if scalar.value < 0x100 { return "\\x" + hex(UInt8(truncatingIfNeeded: scalar.value)) }
        return "\\u{" + String(scalar.value, radix: 16) + "}"
    }

    /// False for characters that a terminal could act on, or a reader could overlook.
    static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.value < 0x80 { return scalar.value >= 0x20 && scalar.value != 0x7F }
        // Hangul fillers are letters to Unicode, and blank.
        if [0x115F, 0x1160, 0x3164, 0xFFA0].contains(scalar.value) { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .spaceSeparator, .surrogate, .privateUse,
            .unassigned:
            return false
        default:
            return !scalar.properties.isDefaultIgnorableCodePoint
        }
    }

    private static func width(_ scalar: Unicode.Scalar) -> Int {
        if scalar.value < 0x300 { return 1 }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark: return 0
        default: break
        }
        return wide.contains { $0.contains(scalar.value) } ? 2 : 1
    }

    /// East Asian wide and full-width characters and emoji (UAX #11).
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x231A...0x231B, 0x2329...0x232A, 0x23E9...0x23F3, 0x25FD...0x25FE, 0x2614...0x2615,
        0x2648...0x2653, 0x267F...0x267F, 0x2693...0x2693, 0x26A1...0x26A1, 0x26AA...0x26AB, 0x26BD...0x26BE,
        0x26C4...0x26C5, 0x26CE...0x26CE, 0x26D4...0x26D4, 0x26EA...0x26EA, 0x26F2...0x26F5, 0x26FA...0x26FD,
        0x2705...0x2705, 0x270A...0x270B, 0x2728...0x2728, 0x274C...0x274E, 0x2753...0x2757, 0x2795...0x2797,
        0x27B0...0x27BF, 0x2B1B...0x2B1C, 0x2B50...0x2B55, 0x2E80...0x303E, 0x3041...0xA4CF, 0xA960...0xA97F,
        0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F, 0xFF01...0xFF60, 0xFFE0...0xFFE6,
        0x16FE0...0x18CFF, 0x1AFF0...0x1B2FF, 0x1F004...0x1F004, 0x1F0CF...0x1F0CF, 0x1F18E...0x1F19A,
        0x1F200...0x1F9FF, 0x1FA70...0x1FAFF, 0x20000...0x3FFFD,
    ]
}

/// Lines of text within a width: wrapping, columns, bars and colours.
struct TextLayout {
    /// The meaning of a text, which decides its colour.
    enum Tone {
        case plain, title, problem, notice, good, quiet, bar

        /// The parameters of the terminal's SGR sequence.
        var code: String? {
            switch self {
            case .plain: nil
            case .title: "1"
            case .problem: "1;31"
            case .notice: "33"
            case .good: "32"
            case .quiet: "2"
            case .bar: "36"
            }
        }
    }

    let style: RejectionReport.TextStyle

    var width: Int { style.width }

    /// The text in the colour of the tone, where there are colours. Its width must be final: colour codes would count
    /// as columns.
    func tone(_ text: String, _ tone: Tone) -> String {
        guard style.isColored, let code = tone.code, !text.isEmpty else { return text }
        return "\u{1B}[\(code)m\(text)\u{1B}[0m"
    }

    /// A section's title.
    func title(_ text: String) -> String { tone(fitted(plain(text), width), .title) }

    /// A hostile value, escaped for this terminal.
    func safe(_ text: String) -> String { plain(SafeText.escaped(text)) }

    /// Escaped text as this terminal can show it.
    func plain(_ text: String) -> String { style.isUnicode ? text : SafeText.ascii(text) }

    /// The text of ``SafeText/fitted(_:_:)``, with `~` in place of `…` where only ASCII can be shown.
    func fitted(_ text: String, _ columns: Int) -> String {
        let fitted = SafeText.fitted(text, columns)
        return style.isUnicode || fitted == text ? fitted : fitted.dropLast() + "~"
    }

    /// The fitted text, filled up with spaces.
    func padded(_ text: String, _ columns: Int) -> String { SafeText.padded(fitted(text, columns), columns) }

    /// ASCII text, aligned to the right in a number of columns.
    func right(_ text: String, _ columns: Int) -> String {
        String(repeating: " ", count: max(0, columns - text.count)) + text
    }

    /// A count, aligned to the right in eleven columns.
    func number(_ value: Int) -> String { right(ReportWords.grouped(value), 11) }

    /// A bar of at most a number of columns; a value above 0 always has a visible bar.
    func bar(_ value: Int, of most: Int, _ columns: Int) -> String {
        guard value > 0, most > 0, columns > 0 else { return "" }
        let eighths = max(1, ReportWords.integer(Double(value) / Double(most) * Double(columns * 8)))
        guard style.isUnicode else { return tone(String(repeating: "#", count: max(1, (eighths + 4) / 8)), .bar) }
        let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
        return tone(String(repeating: "█", count: eighths / 8) + parts[eighths % 8], .bar)
    }

    /// One cell of a column, filled by a number of eighths; numbers below 0 or over 8 count as the nearer of the two.
    func column(_ eighths: Int) -> String {
        let parts =
            style.isUnicode ? [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"] : Array(" ..::::##").map(String.init)
        return parts[min(max(eighths, 0), 8)]
    }

    /// Escaped text in lines of at most the width, with an indent for the first and one for the others. Words longer
    /// than a line are broken, not shortened: they may be part of a command.
    func wrapped(_ text: String, first: String = "", rest: String = "", tone: Tone = .plain) -> [String] {
        var lines: [String] = []
        var line = first
        var isEmpty = true
        func end() {
            lines.append(self.tone(line, tone))
            (line, isEmpty) = (rest, true)
        }
        for word in text.split(separator: " ") {
            let need = SafeText.width(String(word)) + (isEmpty ? 0 : 1)
            if SafeText.width(line) + need <= width {
                line += isEmpty ? String(word) : " \(word)"
                isEmpty = false
                continue
            }
            if !isEmpty { end() }
            for scalar in word.unicodeScalars {
                if SafeText.width(line) + SafeText.width(String(scalar)) > width { end() }
                line.unicodeScalars.append(scalar)
                isEmpty = false
            }
        }
        if !isEmpty { end() }
        return lines
    }

    /// The line without spaces at its end.
    func trimmed(_ line: String) -> String {
        var line = Substring(line)
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
