import Foundation
import Glibc
import Synchronization

/// A child process, in a process group of its own, which ends with this process, however that ends.
final class Child {
    /// How a process ended, and its memory and time.
    struct Ending {
        /// The exit status as in a shell: 128 plus the signal's number if a signal ended the process.
        let status: Int32
        /// The largest resident memory in bytes, pages of files included.
        let peakResident: Int
        /// Seconds from its start to its end.
        let seconds: Double
        /// Seconds of processor time, in user and kernel mode.
        let processorSeconds: Double
    }

    /// The processes that must end before this one.
    private static let running = Mutex<Set<pid_t>>([])

    let pid: pid_t
    private let started = ContinuousClock.now
    private(set) var ending: Ending?

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - input: the path of a file or descriptor for standard input.
    ///   - output: the same for standard output.
    ///   - error: the same for standard error.
    ///   - isDaemon: whether the kernel ends it when this process is killed. That costs another exec, so not for timed
    ///     programs.
    init(
        _ program: String, _ arguments: [String], input: String = "/dev/null", output: String = "/dev/null",
        error: String = "/dev/null", environment: [String: String] = [:], isDaemon: Bool = false
    ) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, error, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        // The child inherits no other descriptor; to close one that isn't open is no error here.
        for descriptor in Int32(3)..<256 { posix_spawn_file_actions_addclose(&actions, descriptor) }

        // This process blocks signals, which its children must not inherit.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var all = sigset_t()
        sigfillset(&all)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

        let words = (isDaemon ? ["/usr/bin/setpriv", "--pdeathsig", "TERM", "--"] : []) + [program] + arguments
        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var argv = words.map { strdup($0) } + [nil]
        var envp = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let status = Self.running.withLock { running in
            let status = posix_spawn(&pid, words[0], &actions, &attributes, &argv, &envp)
            if status == 0 { running.insert(pid) }
            return status
        }
        guard status == 0 else { throw Failure("\(program): \(String(cString: strerror(status)))") }
        self.pid = pid
    }

    deinit { end(SIGKILL) }

    var isRunning: Bool {
        if ending == nil { collect(WNOHANG) }
        return ending == nil
    }

    /// The processor time that it has used so far, in seconds, while it runs.
    func processorSeconds() throws -> Double {
        let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        // The command's name, in brackets, may contain anything; the 14th field of all is the user time.
        guard let end = text.lastIndex(of: ")") else { throw Failure("/proc/\(pid)/stat: \(text)") }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
            throw Failure("/proc/\(pid)/stat: \(text)")
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    @discardableResult func wait() -> Ending {
        while true {
            if let ending { return ending }
            collect(0)
        }
    }

    /// Ends it and its group with this signal, and after ten seconds with SIGKILL.
    func end(_ signal: Int32 = SIGTERM) {
        guard isRunning else { return }
        kill(-pid, SIGCONT)
        kill(pid, signal)
        if !eventually(within: 10, { !isRunning }) { kill(-pid, SIGKILL) }
        wait()
    }

    private func collect(_ options: Int32) {
        var status: Int32 = 0
        var usage = rusage()
        guard wait4(pid, &status, options, &usage) == pid else { return }
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        _ = Self.running.withLock { $0.remove(pid) }
        // The rest of its group ends with it.
        kill(-pid, SIGKILL)
        ending = Ending(
            status: status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f),
            peakResident: usage.ru_maxrss * 1024, seconds: seconds,
            processorSeconds: usage.ru_utime.seconds + usage.ru_stime.seconds)
    }

    /// Ends all child processes at once; for the end of this process.
    static func endAll() {
        let all = running.withLock { running in
            defer { running = [] }
            return running
        }
        for pid in all { kill(-pid, SIGTERM) }
        for _ in 0..<100 where all.contains(where: { kill(-$0, 0) == 0 }) {
            for pid in all { waitpid(pid, nil, WNOHANG) }
            usleep(50_000)
        }
        for pid in all { kill(-pid, SIGKILL) }
    }

    /// Runs a program, which must end with status 0.
    @discardableResult static func run(
        _ program: String, _ arguments: [String], input: String = "/dev/null", output: String = "/dev/null",
        environment: [String: String] = [:], accepts: Set<Int32> = [0]
    ) throws -> Ending {
        let words = URL(fileURLWithPath: program).lastPathComponent
        let messages = Scratch.path("messages")
        unlink(messages)
        let ending = try Child(
            program, arguments, input: input, output: output, error: messages, environment: environment
        ).wait()
        guard accepts.contains(ending.status) else {
            throw Failure("\(words) ended with status \(ending.status):\n\(Scratch.tail(of: messages))")
        }
        return ending
    }
}

extension timeval {
    fileprivate var seconds: Double { Double(tv_sec) + Double(tv_usec) / 1e6 }
}

/// Waits until the condition holds, or the time is over: a limit for broken runs, not for measurements.
func eventually(within seconds: Double, every pause: UInt32 = 20_000, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        if ContinuousClock.now > deadline { return try condition() }
        usleep(pause)
    }
    return true
}
