import Foundation
import Glibc
import System

/// The settings of a source of type `command`.
public struct CommandConfiguration: Sendable, Codable, Equatable {
    /// The program, by its absolute path, and its arguments; it is started without a shell.
    public var command: [String]
    /// The format of its standard output.
    public var format: TableFormat
    /// How many seconds it may run.
    public var timeout: Int
    /// How many bytes it may write.
    public var maximumSize: Int

    /// A program with its limits.
    public init(command: [String], format: TableFormat = .list, timeout: Int = 60, maximumSize: Int = 256 << 20) {
        self.command = command
        self.format = format
        self.timeout = timeout
        self.maximumSize = maximumSize
    }
}

/// A source of type `command`: the standard output of a program is a table.
///
/// The output comes through a pipe, so that a program whose reader has died ends, too. It is copied to a temporary
/// file, which is read only if the program ends by itself with status 0 within its limits.
struct CommandSource: RecipientSource {
    let configuration: SourceConfiguration
    let command: CommandConfiguration
    /// Where the temporary file lies.
    let folder: String

    func read(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(SourceError) -> SourceResult {
        let began = Date()
        let output = try TemporaryFile.open(in: folder)
        defer { close(output) }
        try run(into: output, request.check)
        lseek(output, 0, SEEK_SET)
        let reader = LineReader(output, name: "the output of \(command.command[0])", check: request.check)
        try entries.read(reader, command.format, of: configuration, report: &report)
        return SourceResult(reading: .full, asOf: began)
    }

    /// Runs the program to its end, and copies its output to a file.
    private func run(into file: Int32, _ check: () throws(SourceError) -> Void) throws(SourceError) {
        let program: RunningProgram
        switch RunningProgram.start(command.command) {
        case .success(let started): program = started
        case .failure(let error): throw failure("it can't be started: \(systemMessage(error.code))")
        }
        let deadline = ContinuousClock.now + .seconds(command.timeout)
        var size = 0
        var messages: [UInt8] = []
        while true {
            var failed: SourceError?
            let isOpen = program.read(within: .milliseconds(50)) { bytes in
                size += bytes.count
                // The program is ended for bytes beyond the limit, which needn't be written.
                if size <= command.maximumSize, failed == nil {
                    failed = TemporaryFile.write(bytes, to: file, in: folder)
                }
            } messages: { bytes in
                messages += bytes.prefix(300 - min(300, messages.count))
            }
            if let failed { throw failed }
            guard size <= command.maximumSize else {
                throw failure("it wrote more than \(command.maximumSize) bytes (max_size) and was ended")
            }
            if !isOpen, let ending = program.ending(within: .milliseconds(50)) {
                try checkSuccess(ending, messages)
                return
            }
            try check()
            guard ContinuousClock.now < deadline else {
                throw failure(
                    "it ran longer than \(Duration.seconds(command.timeout).inSeconds) (timeout) and was ended")
            }
        }
    }

    /// Throws an error with the program's first message unless it has ended with status 0.
    private func checkSuccess(_ ending: RunningProgram.Ending, _ messages: [UInt8]) throws(SourceError) {
        let line = (messages.split(separator: 0x0a).first ?? []).map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }
        let message = line.isEmpty ? "" : "; its message: \(String(decoding: line, as: UTF8.self))"
        switch ending {
        case .exited(0): return
        case .exited(let status): throw failure("it ended with status \(status)\(message)")
        case .killed(let signal): throw failure("signal \(signal) ended it\(message)")
        }
    }

    private func failure(_ text: String) -> SourceError {
        SourceError(
            .unreachable, "source \"\(configuration.name)\": the command \(command.command[0]) failed: \(text)",
            source: configuration.name)
    }
}
