import Foundation
import Glibc
import System

/// Why a configuration can't be migrated.
public struct MigrationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failures, by which a command chooses its exit status.
    public enum Kind: Sendable {
        /// A file that is needed doesn't exist.
        case noInput
        /// A file isn't what it should be.
        case data
        /// The system doesn't permit to read or write a file.
        case notPermitted
        /// A program that is needed isn't installed or can't be started.
        case unavailable
        /// A file that must be written can't be, or exists already.
        case cannotCreate
    }

    /// The kind of failure.
    public let kind: Kind
    /// One line: the file or the setting, and what is wrong with it.
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    /// The failure of a system call on a file.
    ///
    /// - Parameter doing: what can't be done, such as `"can't be read"`.
    init(file: String, doing: String, code: Int32 = errno, otherwise kind: Kind = .data) {
        switch code {
        case ENOENT, ENOTDIR: self.init(.noInput, "\(file) \(doing): \(systemMessage(code))")
        case EACCES, EPERM, EROFS: self.init(.notPermitted, "\(file) \(doing): \(systemMessage(code))")
        default: self.init(kind, "\(file) \(doing): \(systemMessage(code))")
        }
    }
}

/// Text files of the MTA's configuration.
enum TextFile {
    /// The largest file that is read.
    private static let largest = 256 << 20

    /// The text of a file; bytes that aren't UTF-8 become U+FFFD.
    ///
    /// - Parameter origin: the setting that names the file, for the message.
    static func read(_ path: String, namedBy origin: String? = nil) throws(MigrationError) -> String {
        let subject = origin.map { "\($0): \(path)" } ?? path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw MigrationError(file: subject, doing: "can't be read") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw MigrationError(file: subject, doing: "can't be read") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw MigrationError(.data, "\(subject) is not a regular file")
        }
        guard status.st_size <= largest else { throw MigrationError(.data, "\(subject) is larger than 256 MiB") }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw MigrationError(file: subject, doing: "can't be read") }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The logical lines of a Postfix file: comments and blank lines removed, lines that begin with white space joined to
    /// the line before.
    static func logicalLines(_ text: String) -> [(number: Int, text: String)] {
        var lines: [(number: Int, text: String)] = []
        for (offset, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            if trimmed.isEmpty || trimmed.hasPrefix("#") { continue }
            if line.first?.isWhitespace == true, !lines.isEmpty {
                lines[lines.count - 1].text += " " + trimmed
            } else {
                lines.append((offset + 1, trimmed.hasSuffix("\r") ? String(trimmed.dropLast()) : trimmed))
            }
        }
        return lines
    }

    /// The left and the right side of a table's line; a quoted left side keeps its quotes.
    static func sides(_ line: String) -> (key: String, value: String) {
        var isQuoted = false
        var end = line.endIndex
        var index = line.startIndex
        while index < line.endIndex {
            let character = line[index]
            if character == "\\" {
                index = line.index(after: index)
                if index == line.endIndex { break }
            } else if character == "\"" {
                isQuoted.toggle()
            } else if !isQuoted, character.isWhitespace {
                end = index
                break
            }
            index = line.index(after: index)
        }
        return (String(line[..<end]), line[end...].trimmingCharacters(in: .whitespaces))
    }
}

/// Runs the MTA's own programs, such as postconf(1).
enum MTAProgram {
    /// Where programs are looked for.
    private static let folders = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin", "/opt/local/sbin"]

    /// The path of an installed program.
    static func path(of name: String) throws(MigrationError) -> String {
        for folder in folders where access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
        throw MigrationError(
            .unavailable, "\(name) isn't installed (looked for in \(folders.joined(separator: ", ")))")
    }

    /// Runs a program to its end, with an empty standard input.
    static func run(_ path: String, _ arguments: [String]) throws(MigrationError) -> (
        status: Int32, output: String, error: String
    ) {
        // Files, as a full pipe that isn't read would hold the program up.
        guard let output = tmpfile(), let error = tmpfile() else {
            throw MigrationError(.cannotCreate, "a temporary file can't be made: \(systemMessage())")
        }
        defer {
            fclose(output)
            fclose(error)
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.environment = ["PATH": folders.joined(separator: ":"), "LANG": "C.UTF-8"]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(fileDescriptor: fileno(output), closeOnDealloc: false)
        process.standardError = FileHandle(fileDescriptor: fileno(error), closeOnDealloc: false)
        do {
            try process.run()
        } catch {
            throw MigrationError(.unavailable, "\(path) can't be started: \(error.localizedDescription)")
        }
        process.waitUntilExit()
        let status = process.terminationReason == .exit ? process.terminationStatus : -1
        return (status, text(of: output), text(of: error))
    }

    private static func text(of file: UnsafeMutablePointer<FILE>) -> String {
        rewind(file)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }
}
