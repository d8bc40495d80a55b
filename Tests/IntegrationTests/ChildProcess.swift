import Foundation
import Glibc

/// A process that a test has started, its output going to files: no pipe can fill up, and a daemon that keeps its
/// standard output open holds nobody up.
final class ChildProcess {
    /// What a process ended with.
    enum Ending: Equatable, CustomStringConvertible {
        case exited(Int32)
        case killed(signal: Int32)

        var description: String {
            switch self {
            case .exited(let status): "exit status \(status)"
            case .killed(let signal): "signal \(signal)"
            }
        }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let pid: pid_t
    /// Set once the process has ended and was waited for.
    private(set) var ending: Ending?

    /// Starts `executable`, with nothing of this process's files open but the three given.
    ///
    /// - Parameters:
    ///   - input: a file to read standard input from; none: an empty one.
    ///   - environment: added to this process's own.
    init(
        _ executable: String, _ arguments: [String], input: String = "/dev/null", output: String, error: String,
        environment: [String: String] = [:]
    ) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, error, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        // Nothing else of this process goes along; closing what isn't open is no error here.
        for descriptor in Int32(3)..<1024 { posix_spawn_file_actions_addclose(&actions, descriptor) }

        // A test runner may ignore or block signals; a daemon must start without that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var all = sigset_t()
        sigfillset(&all)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var argv = ([executable] + arguments).map { strdup($0) } + [nil]
        var envp = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let status = posix_spawn(&pid, executable, &actions, &attributes, &argv, &envp)
        guard status == 0 else { throw Failure(description: "\(executable): \(String(cString: strerror(status)))") }
        self.pid = pid
    }

    deinit {
        guard ending == nil else { return }
        kill(pid, SIGKILL)
        _ = wait()
    }

    /// True until the process has ended.
    var isRunning: Bool {
        if ending == nil { collect(WNOHANG) }
        return ending == nil
    }

    /// Sends a signal to a process that has not been waited for, so that its id can't be another's by now.
    func signal(_ number: Int32) {
        if isRunning { kill(pid, number) }
    }

    /// Waits until the process has ended.
    @discardableResult func wait() -> Ending {
        while ending == nil { collect(0) }
        return ending ?? .exited(-1)
    }

    /// Waits for the end, for at most this long; nil: it still runs.
    func wait(atMost seconds: Double) -> Ending? {
        _ = eventually(within: seconds) { !isRunning }
        return ending
    }

    private func collect(_ options: Int32) {
        var status: Int32 = 0
        guard waitpid(pid, &status, options) == pid else { return }
        let signal = status & 0x7f
        ending = signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }
}

/// Asks `condition` until it holds, for at most `seconds`: the deadline is for a broken run, not a measurement.
func eventually(within seconds: Double, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        if ContinuousClock.now > deadline { return try condition() }
        usleep(20_000)
    }
    return true
}
