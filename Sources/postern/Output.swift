import ArgumentParser
import Foundation
import Glibc
import RejectionReport
import System

/// The formats that every command with `--format` has.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

/// Standard output, for results.
enum Results {
    /// Writes a result with a line end; a disk that is full ends the command with a message and exit status 74.
    static func write(_ text: String, terminator: String = "\n") throws {
        var text = text + terminator
        try text.withUTF8 { try write(UnsafeRawBufferPointer($0)) }
    }

    /// Writes bytes of a result; a reader that has seen enough, such as head(1), ends the command with exit status 0.
    static func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            let written = Glibc.write(STDOUT_FILENO, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if written < 0 && errno == EINTR { continue }
            guard written >= 0 else {
                if errno == EPIPE { throw ExitCode(0) }
                throw Messages.fail("standard output can't be written: \(systemMessage())", ExitStatus.inputOutput)
            }
            done += written
        }
    }
}

/// JSON for programs: keys in a fixed order, times in ISO 8601 UTC.
enum JSON {
    static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .iso8601
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// Times and counts in words.
enum Words {
    /// What there is to say of a filter that runs as root.
    static let runningAsRoot =
        "running as root: Postern needs none of root's rights; run it as a user of its own (User= in the unit)"

    /// Such as `1 recipient`, `12 recipients`; a noun that doesn't take an s needs its plural.
    static func count(_ count: Int, _ noun: String, plural: String? = nil) -> String {
        "\(count) \(count == 1 ? noun : plural ?? "\(noun)s")"
    }

    /// Such as `3 minutes`; the largest unit that fits twice over, or once where that is exact enough.
    static func duration(seconds: Int) -> String {
        let units = [("day", 86_400), ("hour", 3600), ("minute", 60)]
        for (name, length) in units where seconds >= 2 * length { return "\(seconds / length) \(name)s" }
        return seconds == 1 ? "1 second" : "\(seconds) seconds"
    }

    /// Such as `3 minutes ago`; a time to come is `3 minutes in the future`.
    static func age(_ seconds: Double) -> String {
        let whole = Int(exactly: seconds.rounded(.towardZero)) ?? 0
        return whole < 0 ? "\(duration(seconds: 0 - whole)) in the future" : "\(duration(seconds: whole)) ago"
    }

    /// Seconds by which the clocks of two machines may differ.
    static let clockTolerance: TimeInterval = 300

    /// How long ago something was made: `3 minutes ago`; `dated 3 days in the future`, where that is more than clocks differ by.
    static func age(of date: Date, now: Date = Date()) -> String {
        let age = now.timeIntervalSince(date)
        func words(_ seconds: TimeInterval) -> String {
            duration(seconds: Int(exactly: seconds.rounded(.down)) ?? .max)
        }
        return age < -clockTolerance ? "dated \(words(-age)) in the future" : "\(words(max(0, age))) ago"
    }

    /// A day of a number of days since 1970, such as `2026-11-24`.
    static func day(_ day: Int64) -> String {
        Date(timeIntervalSince1970: Double(day) * 86_400).formatted(.iso8601.year().month().day())
    }

    /// Local time with its zone, such as `2026-11-24 10:15:02 +0100`.
    static func time(_ date: Date) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyy-MM-dd HH:mm:ss Z"
        return formatter.string(from: date)
    }
}

/// The terminal on standard output.
enum Terminal {
    /// Its columns; 80 where it is none or doesn't say.
    static var width: Int {
        var size = winsize()
        guard isatty(STDOUT_FILENO) == 1, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return 80
        }
        return max(40, Int(size.ws_col))
    }

    /// Whether standard output is one.
    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    /// True where colours may be shown: on a terminal that has them, unless NO_COLOR forbids it (no-color.org).
    static var isColored: Bool {
        let environment = ProcessInfo.processInfo.environment
        guard isatty(STDOUT_FILENO) == 1, environment["NO_COLOR", default: ""].isEmpty else { return false }
        return !["", "dumb"].contains(environment["TERM", default: ""])
    }

    /// True where the locale's characters are Unicode.
    static var isUnicode: Bool {
        setlocale(LC_CTYPE, "")
        guard let name = nl_langinfo(nl_item(CODESET)) else { return false }
        return String(cString: name) == "UTF-8"
    }
}

extension Terminal {
    /// How a report is laid out here.
    static var reportStyle: RejectionReport.TextStyle {
        .init(width: width, isColored: isColored, isUnicode: isUnicode)
    }
}

/// This machine.
enum Machine {
    /// Its name as it knows it; `localhost` where it has none.
    static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.isEmpty ? "localhost" : text
    }
}
