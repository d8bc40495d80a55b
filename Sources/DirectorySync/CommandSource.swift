import Foundation
import Glibc

/// A source of type `command`: a program's standard output is a table.
///
/// The output is put aside, in a file without a name, and not looked at unless the program ends by itself with status 0 within its
/// limits.
struct CommandSource: RecipientSource {
    let configuration: SourceConfiguration
    /// Its place among the sources of the configuration.
    let index: Int
    let command: CommandConfiguration
    /// Where the output is put aside.
    let folder: String

    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SyncError) -> Pull {
        let began = Date()
        let output = try SpillFile.open(in: folder)
        defer { close(output) }
        let messages = try SpillFile.open(in: folder)
        defer { close(messages) }
        try run(output, messages, request.check)
        lseek(output, 0, SEEK_SET)
        let name = "the output of \(command.command[0])"
        let tag = intake.begin(source: index)
        var foreign = ForeignAddresses()
        var parser = TableParser(command.format)
        let noObject = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        try parser.parse(LineReader(output, name: name, check: request.check)) { key, domain, flags, line in
            if intake.admits(domain, source: index) {
                intake.add(Entry(key: key, tag: tag, flags: flags, object: noObject))
            } else {
                foreign.note { "\(String(decoding: key, as: UTF8.self)) (line \(line))" }
            }
        }
        guard parser.malformed.count == 0 else {
            throw SyncError(
                .malformed,
                "source \"\(configuration.name)\" holds malformed lines (\(parser.malformed.count)), so it is not used:\n"
                    + parser.malformed.description(file: name), source: configuration.name)
        }
        if let failure = intake.failure { throw failure }
        report.read = parser.entries
        report.skipped = parser.skipped
        report.foreign = foreign
        return Pull(reading: .full, asOf: began)
    }

    /// Runs the program to its end.
    private func run(
        _ output: Int32, _ messages: Int32, _ check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        let program: RunningProgram
        switch RunningProgram.start(command.command, output: output, messages: messages) {
        case .success(let started): program = started
        case .failure(let error): throw failure("it can't be started: \(systemMessage(error.code))")
        }
        let deadline = ContinuousClock.now + .seconds(command.timeout)
        while true {
            if let ending = program.ending(within: .milliseconds(50)) {
                let said = Self.beginning(of: messages)
                let words = said.isEmpty ? "" : "; it said: \(said)"
                switch ending {
                case .exited(0): break
                case .exited(let status): throw failure("it ended with status \(status)\(words)")
                case .killed(let signal): throw failure("signal \(signal) ended it\(words)")
                }
                break
            }
            try check()
            guard ContinuousClock.now < deadline else {
                throw failure("it ran longer than \(Duration.seconds(command.timeout).text) (timeout) and was ended")
            }
            try checkSize(output)
        }
        try checkSize(output)
    }

    private func checkSize(_ output: Int32) throws(SyncError) {
        var status = stat()
        guard fstat(output, &status) == 0, status.st_size > command.maximumSize else { return }
        throw failure("it wrote more than \(command.maximumSize) octets (max_size) and was ended")
    }

    private static func beginning(of messages: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 300)
        let count = pread(messages, &bytes, bytes.count, 0)
        let line = bytes.prefix(max(0, count)).split(separator: 0x0a).first ?? []
        return String(decoding: line.map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }, as: UTF8.self)
    }

    private func failure(_ text: String) -> SyncError {
        SyncError(
            .unreachable, "source \"\(configuration.name)\": the command \(command.command[0]) failed: \(text)",
            source: configuration.name)
    }
}
