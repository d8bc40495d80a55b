/// The lines of a table that can't be understood: all counted, the first twenty kept.
struct MalformedLines {
    static let kept = 20

    private(set) var count = 0
    private(set) var lines: [(number: Int, text: String)] = []

    mutating func add(_ number: Int, _ text: @autoclosure () -> String) {
        count += 1
        if lines.count < Self.kept { lines.append((number, text())) }
    }

    /// `/etc/postfix/virtual:17: what was found; what is accepted`, a line for each.
    func description(file: String) -> String {
        var text = lines.map { "\(file):\($0.number): \($0.text)" }
        if count > lines.count { text.append("\(file): \(count - lines.count) more malformed lines") }
        return text.joined(separator: "\n")
    }
}
