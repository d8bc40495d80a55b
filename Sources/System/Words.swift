package import Foundation

/// Counts, sizes and times in the words of messages.
package enum Words {
    /// Such as `1 recipient`, `12 recipients`.
    ///
    /// - Parameter plural: the noun's plural, if it isn't the noun with an s.
    package static func count(_ count: Int, _ noun: String, plural: String? = nil) -> String {
        "\(count) \(count == 1 ? noun : plural ?? "\(noun)s")"
    }

    /// Such as `3 minutes`, in the largest unit of which there are two at least.
    package static func duration(seconds: Int) -> String {
        let units = [("day", 86_400), ("hour", 3600), ("minute", 60)]
        for (name, length) in units where seconds >= 2 * length { return "\(seconds / length) \(name)s" }
        return count(seconds, "second")
    }

    /// Such as `3 minutes ago`; `3 minutes in the future` for a negative number.
    package static func age(_ seconds: Double) -> String {
        let whole = Int(exactly: seconds.rounded(.towardZero)) ?? 0
        return whole < 0 ? "\(duration(seconds: 0 - whole)) in the future" : "\(duration(seconds: whole)) ago"
    }

    /// The seconds by which the clocks of two machines may differ.
    package static let clockTolerance: TimeInterval = 300

    /// The age of a file or record that another machine may have dated: `3 minutes ago`, or `dated 3 days in the future`
    /// if the clocks of two machines can't differ by as much.
    package static func age(of date: Date, now: Date = Date()) -> String {
        let age = now.timeIntervalSince(date)
        func words(_ seconds: TimeInterval) -> String {
            duration(seconds: Int(exactly: seconds.rounded(.down)) ?? .max)
        }
        return age < -clockTolerance ? "dated \(words(-age)) in the future" : "\(words(max(0, age))) ago"
    }

    /// A day that is given by its number since 1970, such as `2026-11-24`.
    package static func day(_ day: Int64) -> String {
        Date(timeIntervalSince1970: Double(day) * 86_400).formatted(.iso8601.year().month().day())
    }

    /// Local time with its zone, such as `2026-11-24 10:15:02 +0100`.
    package static func time(_ date: Date) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyy-MM-dd HH:mm:ss Z"
        return formatter.string(from: date)
    }

    /// Such as `512 B`, `3.4 MiB`, `120 GiB`.
    package static func size(_ bytes: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var (value, unit) = (Double(bytes), 0)
        while value >= 1024, unit < units.count - 1 { (value, unit) = (value / 1024, unit + 1) }
        let tenths = (value * 10).rounded() / 10
        return (unit == 0 || value >= 10 ? "\(Int(value.rounded()))" : "\(tenths)") + " \(units[unit])"
    }
}

extension String {
    /// The text of several lines on one: a line that ends with a colon leads to the next, the others end with a semicolon.
    package var onOneLine: String {
        replacingOccurrences(of: ":\n", with: ": ").replacingOccurrences(of: "\n", with: "; ").escapedForMessage
    }

    /// The text with its control and format characters as escapes, fit for a message of one line.
    package var escapedForMessage: String {
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

extension Duration {
    /// The duration in whole seconds, such as `1 second`, `30 seconds`.
    package var inSeconds: String { Words.count(Int(components.seconds), "second") }
}

/// The JSON that programs read: names in snake case and in a fixed order, times in ISO 8601 and UTC.
package enum JSON {
    /// A value as JSON text of several lines.
    package static func text(_ value: some Encodable) throws -> String {
        try encoded(value, [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    }

    /// A value as JSON text of one line.
    package static func line(_ value: some Encodable) throws -> String {
        try encoded(value, [.sortedKeys, .withoutEscapingSlashes])
    }

    private static func encoded(_ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting
        encoder.dateEncodingStrategy = .iso8601
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// The value of a JSON text.
    package static func value<Value: Decodable>(_ type: Value.Type, from text: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: text)
    }
}
