import ArgumentParser
import Foundation
import Glibc
import RejectionReport
import System

/// Standard error, for messages: results go to standard output.
enum Messages {
    /// Writes a message of one or more lines, each with the program's name in front.
    static func write(_ message: some CustomStringConvertible) {
        let text = message.description.split(separator: "\n").map { "postern: \($0)\n" }.joined()
        MessageStream.standardError.write(text)
    }

    /// Says why a command ends, and ends it with this exit status.
    static func fail(_ message: some CustomStringConvertible, _ status: Int32) -> ExitCode {
        write(message)
        MessageStream.standardError.flush(within: .seconds(1))
        return ExitCode(status)
    }
}

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
