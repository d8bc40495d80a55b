import Foundation
import Glibc
import Synchronization

/// A process that was started here. It is in a process group of its own, which ends with this process, however that ends.
final class Child {
    /// How a process ended, and what it took.
    struct Ending {
        /// As a shell would say it: 128 and the signal's number where a signal ended it.
        let status: Int32
        /// The most memory it had resident, in bytes: that of its files counts too.
        let peakResident: Int
        /// From its start to its end.
        let seconds: Double
        /// Of the processor, its own and the kernel's on its behalf.
        let processorSeconds: Double
    }

    /// What must end before this process does.
    private static let running = Mutex<Set<pid_t>>([])

    let pid: pid_t
    private let started = ContinuousClock.now
    private(set) var ending: Ending?

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - input: a file or a descriptor's path for standard input.
    ///   - output: for standard output.
    ///   - error: for standard error.
    ///   - isDaemon: whether the kernel is to end it when this process is killed. It takes another exec, so not for what is timed.
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
        // Nothing else goes along; closing what isn't open is no error here.
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

    /// What it has taken of the processor so far, while it runs.
    func processorSeconds() throws -> Double {
        let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        // The command's name, in brackets, may hold anything; the 14th field comes after it.
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

    /// Ends it and all of its group: with this signal, and after ten seconds with force.
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
        // What is left of its group goes with it.
        kill(-pid, SIGKILL)
        ending = Ending(
            status: status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f),
            peakResident: usage.ru_maxrss * 1024, seconds: seconds,
            processorSeconds: usage.ru_utime.seconds + usage.ru_stime.seconds)
    }

    /// Ends all that runs, in the middle of whatever else happens: for the end of this process.
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

    /// Runs a program to its end, which must be a good one.
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

/// Asks until it holds, for at most so long: the limit is for a broken run, not a measurement.
func eventually(within seconds: Double, every pause: UInt32 = 20_000, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        if ContinuousClock.now > deadline { return try condition() }
        usleep(pause)
    }
    return true
}
