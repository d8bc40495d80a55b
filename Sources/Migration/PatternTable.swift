/// The rules of a regexp or pcre table of Postfix: regexp_table(5), pcre_table(5).
struct PatternTable {
    /// A rule of the table.
    struct Rule: Equatable {
        var line: Int
        /// The expression without its delimiters.
        var expression: String
        var isNegated = false
        var flags = ""
        /// The right side.
        var action: String
        /// Whether it stands between `if` and `endif`.
        var isConditional = false

        /// The domain and its target if the rule makes a whole domain an alias of another, such as
        /// `/^(.*)@alias\.example$/ $1@example.com`.
        var alias: (domain: String, target: String)? {
            guard !isNegated, !isConditional else { return nil }
            for start in ["^(.*)@", "^(.+)@", "^([^@]*)@", "^([^@]+)@", "(.*)@", "(.+)@"] {
                guard expression.hasPrefix(start), expression.hasSuffix("$") else { continue }
                let domain = expression.dropFirst(start.count).dropLast().replacing("\\.", with: ".")
                guard domain.allSatisfy({ $0.isLetter || $0.isNumber || "-._".contains($0) }) else { return nil }
                for prefix in ["$1@", "${1}@", "$(1)@"] where action.hasPrefix(prefix) {
                    let target = action.dropFirst(prefix.count)
                    guard !target.contains(where: { $0.isWhitespace || "@,$".contains($0) }) else { return nil }
                    return (String(domain), String(target))
                }
                return nil
            }
            return nil
        }
    }

    var rules: [Rule] = []
    /// Lines that can't be read.
    var faults: [Int] = []

    init(_ text: String) {
        var depth = 0
        for (number, line) in TextFile.logicalLines(text) {
            var rest = Substring(line)
            if let word = rest.split(whereSeparator: \.isWhitespace).first?.lowercased() {
                if word == "endif" {
                    depth = max(0, depth - 1)
                    continue
                }
                if word == "if" {
                    depth += 1
                    continue
                }
            }
            var rule = Rule(line: number, expression: "", action: "", isConditional: depth > 0)
            if rest.first == "!" {
                rule.isNegated = true
                rest = rest.dropFirst()
            }
            guard let delimiter = rest.first, !delimiter.isLetter, !delimiter.isNumber, !delimiter.isWhitespace else {
                faults.append(number)
                continue
            }
            rest = rest.dropFirst()
            var isClosed = false
            while let character = rest.popFirst() {
                if character == delimiter {
                    isClosed = true
                    break
                }
                if character == "\\", let next = rest.popFirst() {
                    rule.expression += next == delimiter ? "\(next)" : "\\\(next)"
                } else {
                    rule.expression.append(character)
                }
            }
            guard isClosed else {
                faults.append(number)
                continue
            }
            rule.flags = String(rest.prefix { !$0.isWhitespace })
            rule.action = rest.dropFirst(rule.flags.count).trimmingPrefix { $0.isWhitespace }.description
            rules.append(rule)
        }
    }

    /// An expression that matches one text alone.
    static func expression(for text: String) -> String {
        "^" + text.map { $0.isLetter || $0.isNumber || "@-_".contains($0) ? "\($0)" : "\\\($0)" }.joined() + "$"
    }
}
