/// Lines of text within a width: wrapping, columns, bars and colours.
struct TextLayout {
    /// What a piece of text is to the reader.
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

    /// The text in the tone's colour, where there are colours; to be called when its width has been settled.
    func tone(_ text: String, _ tone: Tone) -> String {
        guard style.isColored, let code = tone.code, !text.isEmpty else { return text }
        return "\u{1B}[\(code)m\(text)\u{1B}[0m"
    }

    /// A section's title.
    func title(_ text: String) -> String { tone(fitted(plain(text), width), .title) }

    /// A hostile value made fit for this terminal.
    func safe(_ text: String) -> String { plain(SafeText.escaped(text)) }

    /// Escaped text as this terminal can show it.
    func plain(_ text: String) -> String { style.isUnicode ? text : SafeText.ascii(text) }

    /// `SafeText.fitted`, with an ASCII mark of what is missing where need be.
    func fitted(_ text: String, _ columns: Int) -> String {
        let fitted = SafeText.fitted(text, columns)
        return style.isUnicode || fitted == text ? fitted : fitted.dropLast() + "~"
    }

    /// `fitted`, and filled up with spaces.
    func padded(_ text: String, _ columns: Int) -> String { SafeText.padded(fitted(text, columns), columns) }

    /// ASCII text at the right of so many columns.
    func right(_ text: String, _ columns: Int) -> String {
        String(repeating: " ", count: max(0, columns - text.count)) + text
    }

    /// A count at the right of eleven columns.
    func number(_ value: Int) -> String { right(ReportWords.grouped(value), 11) }

    /// A bar of at most so many columns; something is never nothing.
    func bar(_ value: Int, of most: Int, _ columns: Int) -> String {
        guard value > 0, most > 0, columns > 0 else { return "" }
        let eighths = max(1, ReportWords.integer(Double(value) / Double(most) * Double(columns * 8)))
        guard style.isUnicode else { return tone(String(repeating: "#", count: max(1, (eighths + 4) / 8)), .bar) }
        let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
        return tone(String(repeating: "█", count: eighths / 8) + parts[eighths % 8], .bar)
    }

    /// One cell of a column that is filled by so many eighths; below 0 and over 8 too.
    func column(_ eighths: Int) -> String {
        let parts =
            style.isUnicode ? [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"] : Array(" ..::::##").map(String.init)
        return parts[min(max(eighths, 0), 8)]
    }

    /// Escaped text in lines of at most the width, the first and the others with something in front. Words that are longer
    /// than a line are cut, not shortened: they may be a command to copy.
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

    /// Without spaces at the end.
    func trimmed(_ line: String) -> String {
        var line = Substring(line)
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
