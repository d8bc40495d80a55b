import Foundation
import Glibc

/// A program that runs, in a process group of its own which ends with the object; posix_spawn(3).
///
/// No shell is between; nothing is on its standard input, and only PATH and LANG are in its environment.
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

    private init(_ process: pid_t) { self.process = process }

    deinit {
        // Its children too, if it has left any behind.
        kill(-process, SIGKILL)
        if !hasEnded {
            var status: Int32 = 0
            while waitpid(process, &status, 0) < 0, errno == EINTR {}
        }
    }

    /// - Parameters:
    ///   - command: the program by its whole path, and its arguments.
    ///   - output, messages: open files for its standard output and standard error.
    static func start(
        _ command: [String], output: Int32, messages: Int32
    ) -> Result<RunningProgram, StartError> {
        // Allocated rather than initialized: which C module the types belong to depends on the order of headers.
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
        posix_spawn_file_actions_adddup2(actions, output, 1)
        posix_spawn_file_actions_adddup2(actions, messages, 2)
        // What Postern blocks and ignores is its own affair.
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
        return code == 0 ? .success(RunningProgram(process)) : .failure(StartError(code: code))
    }

    /// How it ended; nil while it goes on after this time.
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
                // Somebody else has waited for it: how it ended can't be known, so it counts as a failure.
                hasEnded = true
                return .exited(-1)
            }
            guard ContinuousClock.now < deadline else { return nil }
            usleep(5_000)
        }
    }
}
