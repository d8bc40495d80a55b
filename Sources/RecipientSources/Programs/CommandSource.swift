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
/// The output comes through a pipe, so that the program ends, too, if Postern dies. It is copied to a temporary
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

    func origin(of key: String, object: Data) -> String? { "the output of \(command.command[0])" }

    /// Runs the program to its end, and copies its output to a file.
    private func run(into file: Int32, _ check: () throws(SourceError) -> Void) throws(SourceError) {
        let program: RunningProgram
        switch RunningProgram.start(command.command) {
        case .success(let started): program = started
        case .failure(let error): throw failed("it can't be started: \(systemMessage(error.code))")
        }
        let deadline = ContinuousClock.now + .seconds(command.timeout)
        var size = 0
        var messages: [UInt8] = []
        while true {
            var notWritten: SourceError?
            let isOpen = program.read(within: .milliseconds(50)) { bytes in
                size += bytes.count
                // The program is ended for bytes beyond the limit, which needn't be written.
                if size <= command.maximumSize, notWritten == nil {
                    notWritten = TemporaryFile.write(bytes, to: file, in: folder)
                }
            } messages: { bytes in
                messages += bytes.prefix(300 - min(300, messages.count))
            }
            if let notWritten { throw notWritten }
            guard size <= command.maximumSize else {
                throw failed("it wrote more than \(command.maximumSize) bytes (max_size) and was ended")
            }
            if !isOpen, let ending = program.ending(within: .milliseconds(50)) {
                try checkSuccess(ending, messages)
                return
            }
            try check()
            guard ContinuousClock.now < deadline else {
                throw failed(
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
        case .exited(let status): throw failed("it ended with status \(status)\(message)")
        case .killed(let signal): throw failed("signal \(signal) ended it\(message)")
        }
    }

    private func failed(_ text: String) -> SourceError { failure("the command \(command.command[0]) failed: \(text)") }
}

/// A running program, in a process group of its own that is killed with the object; `posix_spawn(3)`.
///
/// It is started without a shell, with an empty standard input, and with nothing but PATH and LANG in its environment.
final class RunningProgram {
    enum Ending {
        case exited(Int32)
        case killed(Int32)
    }

    /// An errno.
    struct StartError: Error {
        let code: Int32
    }

    private let process: pid_t
    private var hasEnded = false
    /// The reading ends of its standard output and standard error; -1 once they are closed.
    private var descriptors: (output: Int32, messages: Int32)
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)

    private init(_ process: pid_t, output: Int32, messages: Int32) {
        self.process = process
        descriptors = (output, messages)
    }

    deinit {
        buffer.deallocate()
        if descriptors.output >= 0 { close(descriptors.output) }
        if descriptors.messages >= 0 { close(descriptors.messages) }
        // Its children too, if it has left any behind.
        kill(-process, SIGKILL)
        if !hasEnded { Self.reap(process) }
    }

    /// Waits for a program that was killed. If it hangs in the kernel, such as in a file system that doesn't answer, a
    /// thread waits for it.
    private static func reap(_ process: pid_t) {
        let deadline = ContinuousClock.now + .milliseconds(500)
        while ContinuousClock.now < deadline {
            var status: Int32 = 0
            let result = waitpid(process, &status, WNOHANG)
            if result == process || result < 0 && errno != EINTR { return }
            usleep(2_000)
        }
        NamedThread.start("reaper", stackSize: 256 << 10) {
            var status: Int32 = 0
            while waitpid(process, &status, 0) < 0, errno == EINTR {}
        }
    }

    /// Starts a program.
    ///
    /// - Parameter command: the program's absolute path, and its arguments.
    static func start(_ command: [String]) -> Result<RunningProgram, StartError> {
        var output: [Int32] = [-1, -1]
        var messages: [Int32] = [-1, -1]
        guard makePipe(&output) else { return .failure(StartError(code: errno)) }
        guard makePipe(&messages) else {
            let code = errno
            output.forEach { _ = close($0) }
            return .failure(StartError(code: code))
        }
        defer {
            close(output[1])
            close(messages[1])
        }
        // Allocated, as the C module that these types belong to depends on the order of headers.
        let actions = UnsafeMutablePointer<posix_spawn_file_actions_t>.allocate(capacity: 1)
        let attributes = UnsafeMutablePointer<posix_spawnattr_t>.allocate(capacity: 1)
        posix_spawn_file_actions_init(actions)
        posix_spawnattr_init(attributes)
        defer {
            posix_spawn_file_actions_destroy(actions)
            posix_spawnattr_destroy(attributes)
            actions.deallocate()
            attributes.deallocate()
        }
        posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(actions, output[1], 1)
        posix_spawn_file_actions_adddup2(actions, messages[1], 2)
        // Libraries may open descriptors without close-on-exec: a hanging program would keep the connections of the
        // filter's clients open.
        for descriptor in 3..<descriptorsEnd { posix_spawn_file_actions_addclose(actions, descriptor) }
        // The program starts with the default signal handling, whatever Postern blocks and ignores.
        let signals = UnsafeMutablePointer<sigset_t>.allocate(capacity: 1)
        defer { signals.deallocate() }
        sigemptyset(signals)
        posix_spawnattr_setsigmask(attributes, signals)
        sigfillset(signals)
        posix_spawnattr_setsigdefault(attributes, signals)
        posix_spawnattr_setpgroup(attributes, 0)
        posix_spawnattr_setflags(
            attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        arguments.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = [
            strdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), strdup("LANG=C.UTF-8"), nil,
        ]
        defer {
            arguments.forEach { free($0) }
            environment.forEach { free($0) }
        }
        var process: pid_t = 0
        let code = posix_spawn(&process, command[0], actions, attributes, &arguments, &environment)
        if code == 0 { return .success(RunningProgram(process, output: output[0], messages: messages[0])) }
        close(output[0])
        close(messages[0])
        return .failure(StartError(code: code))
    }

    /// A number after the last open descriptor, with room for descriptors that other threads open meanwhile; the others
    /// needn't be open.
    private static var descriptorsEnd: Int32 {
        let open = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        return (open.compactMap { Int32($0) }.max() ?? 1_023) + 65
    }

    private static func makePipe(_ ends: inout [Int32]) -> Bool {
        guard pipe(&ends) == 0 else { return false }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return true
    }

    /// Calls the bodies with the output and the messages that the program writes within this time; false once the
    /// program has closed both.
    func read(
        within time: Duration, output: (UnsafeRawBufferPointer) -> Void, messages: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        guard descriptors.output >= 0 || descriptors.messages >= 0 else { return false }
        var entries = [descriptors.output, descriptors.messages].map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        guard poll(&entries, 2, Int32(time / .milliseconds(1))) > 0 else { return true }
        if entries[0].revents != 0 { receive(from: &descriptors.output, output) }
        if entries[1].revents != 0 { receive(from: &descriptors.messages, messages) }
        return descriptors.output >= 0 || descriptors.messages >= 0
    }

    private func receive(from descriptor: inout Int32, _ body: (UnsafeRawBufferPointer) -> Void) {
        let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
        if count > 0 {
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        } else if count == 0 || errno != EINTR {
            close(descriptor)
            descriptor = -1
        }
    }

    /// How the program ended; nil if it still runs after this time.
    func ending(within time: Duration) -> Ending? {
        let deadline = ContinuousClock.now + time
        while true {
            var status: Int32 = 0
            let result = waitpid(process, &status, WNOHANG)
            if result == process {
                hasEnded = true
                let signal = status & 0x7f
                return signal == 0 ? .exited(status >> 8 & 0xff) : .killed(signal)
            }
            if result < 0, errno != EINTR {
                // Another part of the process has waited for it: its status is unknown, which is treated as a failure.
                hasEnded = true
                return .exited(-1)
            }
            guard ContinuousClock.now < deadline else { return nil }
            usleep(5_000)
        }
    }
}
