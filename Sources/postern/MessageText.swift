import Foundation

extension String {
    /// The text of a message on one line: the lines are joined by semicolons, after a colon by a space.
    var onOneLine: String {
        replacingOccurrences(of: ":\n", with: ": ").replacingOccurrences(of: "\n", with: "; ").escapedForMessage
    }

    /// The text with control characters as escapes, fit for a one-line message.
    var escapedForMessage: String {
        // Most texts have none, and asking the properties of each scalar takes long.
        if utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return self }
        return unicodeScalars.reduce(into: "") { text, scalar in
            switch scalar {
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.properties.generalCategory == .control || scalar.properties.generalCategory == .format:
                text += "\\u{\(String(scalar.value, radix: 16))}"
            default: text.unicodeScalars.append(scalar)
            }
        }
    }
}
