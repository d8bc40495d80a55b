import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// Sources of type `command`; the programs are small shell scripts.
@Suite struct CommandSourceTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A script in the folder, as the only source.
    private func synchronizer(
        _ script: String, mode: mode_t = 0o755, _ adjust: (inout CommandConfiguration) -> Void = { _ in }
    ) throws -> Synchronizer {
        let path = try folder.write("#!/bin/sh\n" + script, as: "users")
        chmod(path, mode)
        var command = CommandConfiguration(command: [path])
        adjust(&command)
        var configuration = folder.configuration([])
        configuration.sources = [SourceConfiguration(name: "people", kind: .command(command))]
        return try Synchronizer(configuration)
    }

    @Test func recipientsInTheOutputOfAProgramAreListed() throws {
        // Arguments reach the program as they are: no shell interprets them.
        let report = try synchronizer("echo anna@example.com; echo \"$2\"@example.com; echo a@elsewhere.test") {
            $0.command += ["$(touch \(folder.file("oops")))", "bob"]
        }.run()
        #expect(report.added.addresses == ["anna@example.com", "bob@example.com"])
        #expect(report.sources.first?.report.foreign.count == 1)
        #expect(!FileManager.default.fileExists(atPath: folder.file("oops")))
        let second = try synchronizer("printf 'anna@example.com x\\n@example.org y\\n'") { $0.format = .postfix }
            .run(acceptShrink: true)
        #expect(second.outcome == .published)
        #expect(try folder.snapshot().lookup("anna@example.com") != nil)
        #expect(try folder.snapshot().info.catchAllDomains == 1)
    }

    @Test func aProgramInheritsNothingFromPostern() throws {
        setenv("POSTERN_TEST_SECRET", "secret", 1)
        defer { unsetenv("POSTERN_TEST_SECRET") }
        // Its standard input is empty, and no other file of this process is open in it.
        let script = """
            test -z "$POSTERN_TEST_SECRET" || echo environment@example.com
            read line && echo input@example.com
            test "$(ls /proc/self/fd | wc -l)" -le 4 || echo files@example.com
            echo anna@example.com

            """
        // A descriptor without close-on-exec, as some libraries open theirs.
        let held = open("/dev/null", O_RDONLY)
        defer { close(held) }
        #expect(try synchronizer(script).run().added.addresses == ["anna@example.com"])
    }

    static let failures: [(name: String, script: String, kind: SyncError.Kind, words: String)] = [
        (
            "exit status", "echo anna@example.com; echo no such base >&2; exit 3", .unreachable,
            "it ended with status 3; its message: no such base"
        ),
        ("killed", "echo anna@example.com; kill -9 $$", .unreachable, "signal 9 ended it"),
        (
            "too slow", "echo anna@example.com; sleep 60", .unreachable,
            "it ran longer than 1 second (timeout) and was ended"
        ),
        (
            "endless", "while :; do echo anna@example.com; done", .unreachable,
            "it wrote more than 4096 bytes (max_size) and was ended"
        ),
        (
            "too much", "head -c 5000 /dev/zero | tr '\\0' a", .unreachable,
            "it wrote more than 4096 bytes (max_size) and was ended"
        ),
        ("malformed", "echo anna@example.com; echo anna bob@@", .malformed, "users:2"),
        ("bad interpreter", "", .unreachable, "it can't be started: Permission denied"),
    ]

    @Test("the output of a failed run is not published", arguments: failures.indices)
    func theOutputOfAFailedRunIsNotPublished(number: Int) throws {
        let failure = Self.failures[number]
        let good = users(5).split(separator: "\n").map { "echo \($0)\n" }.joined()
        #expect(try synchronizer(good).run().recipients == 5)
        let before = try folder.snapshot().info
        let mode: mode_t = failure.name == "bad interpreter" ? 0o644 : 0o755
        let failed = try synchronizer(failure.script + "\n", mode: mode) {
            $0.timeout = 1
            $0.maximumSize = 4_096
        }
        let error = syncError { try failed.run() }
        #expect(error?.kind == failure.kind, "\(failure.name): \(error?.description ?? "no error")")
        #expect(error?.description.contains("source \"people\"") == true, "\(failure.name)")
        #expect(error?.description.contains(failure.words) == true, "\(failure.name): \(error?.description ?? "")")
        let after = try folder.snapshot().info
        #expect(after.generation == before.generation, "\(failure.name)")
        #expect(after.recipients == 5)
    }

    @Test func aProgramThatIsEndedLeavesNoProcessBehind() throws {
        let pidFile = folder.file("pid")
        let script = "sleep 60 & echo $! > \(pidFile); echo anna@example.com; wait\n"
        let failed = try synchronizer(script) { $0.timeout = 1 }
        #expect(syncError { try failed.run() } != nil)
        let text = try String(contentsOfFile: pidFile, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let child = try #require(pid_t(text))
        // It may be a zombie until the machine's first process has looked at it.
        func runs() -> Bool {
            let status =
                FileManager.default.contents(atPath: "/proc/\(child)/stat").map { String(decoding: $0, as: UTF8.self) }
                ?? ""
            return status.contains(") S") || status.contains(") R")
        }
        let limit = ContinuousClock.now + .seconds(20)
        while runs(), ContinuousClock.now < limit { usleep(20_000) }
        #expect(!runs())
    }

    @Test func aMissingProgramIsReported() throws {
        let gone = try synchronizer("") { $0.command = ["/nonexistent/list-users"] }
        let error = syncError { try gone.run() }
        #expect(error?.kind == .unreachable)
        #expect(
            error?.description.contains("/nonexistent/list-users failed: it can't be started: No such file") == true)
    }
}
