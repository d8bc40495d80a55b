import Foundation
import Glibc
import System

/// A source of type `command`: a program's standard output is a table.
///
/// The output comes through a pipe, so that a program whose reader has died ends too; it is put aside, in a file without a name, and
/// not looked at unless the program ends by itself with status 0 within its limits.
struct CommandSource: RecipientSource {
    let configuration: SourceConfiguration
    /// Its place among the sources of the configuration.
    let index: Int
    let command: CommandConfiguration
    /// Where the output is put aside.
    let folder: String

    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SourceError) -> Pull {
        let began = Date()
        let output = try SpillFile.open(in: folder)
        defer { close(output) }
        try run(into: output, request.check)
        lseek(output, 0, SEEK_SET)
        let name = "the output of \(command.command[0])"
        try intake.take(
            LineReader(output, name: name, check: request.check), command.format, name: name, of: configuration,
            at: index,
            &report)
        return Pull(reading: .full, asOf: began)
    }

    /// Runs the program to its end.
    private func run(into file: Int32, _ check: () throws(SourceError) -> Void) throws(SourceError) {
        let program: RunningProgram
        switch RunningProgram.start(command.command) {
        case .success(let started): program = started
        case .failure(let error): throw failure("it can't be started: \(systemMessage(error.code))")
        }
        let deadline = ContinuousClock.now + .seconds(command.timeout)
        var size = 0
        var said: [UInt8] = []
        while true {
            var failed: SourceError?
            let isOpen = program.read(within: .milliseconds(50)) { bytes in
                size += bytes.count
                // What is beyond the limit needn't be written any more.
                if size <= command.maximumSize, failed == nil { failed = write(bytes, to: file) }
            } messages: { bytes in
                said += bytes.prefix(300 - min(300, said.count))
            }
            if let failed { throw failed }
            guard size <= command.maximumSize else {
                throw failure("it wrote more than \(command.maximumSize) octets (max_size) and was ended")
            }
            if !isOpen, let ending = program.ending(within: .milliseconds(50)) {
                try judge(ending, said)
                return
            }
            try check()
            guard ContinuousClock.now < deadline else {
                throw failure("it ran longer than \(Duration.seconds(command.timeout).text) (timeout) and was ended")
            }
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, to file: Int32) -> SourceError? {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let code = errno
                return SourceError(
                    .temporaryFile, "can't write a temporary file in \(folder): \(systemMessage(code))",
                    advice: FileAdvice.text(code, path: folder + "/"))
            }
            done += count
        }
        return nil
    }

    private func judge(_ ending: RunningProgram.Ending, _ said: [UInt8]) throws(SourceError) {
        let line = (said.split(separator: 0x0a).first ?? []).map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }
        let words = line.isEmpty ? "" : "; it said: \(String(decoding: line, as: UTF8.self))"
        switch ending {
        case .exited(0): return
        case .exited(let status): throw failure("it ended with status \(status)\(words)")
        case .killed(let signal): throw failure("signal \(signal) ended it\(words)")
        }
    }

    private func failure(_ text: String) -> SourceError {
        SourceError(
            .unreachable, "source \"\(configuration.name)\": the command \(command.command[0]) failed: \(text)",
            source: configuration.name)
    }
}
