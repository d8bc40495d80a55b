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
