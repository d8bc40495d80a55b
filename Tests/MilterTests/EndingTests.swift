import Foundation
import Synchronization
import TestSupport
import Testing

/// Signals, and the end of the filter under load.
@Suite(.serialized) struct EndingTests {
    let folder: TemporaryFolder
    let path: String
    let filter: FilterProcess

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file("s")
        filter = try FilterProcess.serving(path)
    }

    /// The responses that the MTAs received.
    private final class Load: Sendable {
        let answers = Atomic<Int>(0)
        let isOver = Atomic<Bool>(false)
        let lost = Atomic<Int>(0)

        /// Asks for recipients until the connection ends or the load is over.
        func run(_ path: String) {
            guard let connection = try? MTAConnection.started(path: path) else { return }
            while !isOver.load(ordering: .relaxed) {
                guard (try? connection.recipient("<reject@test>")) != nil else {
                    lost.add(1, ordering: .relaxed)
                    return
                }
                answers.add(1, ordering: .relaxed)
            }
        }
    }

    private func verdicts(_ line: String?) throws -> Int {
        let words = line?.split(separator: " ") ?? []
        guard words.count == 3, words[0] == "verdicts", words[2] == "drained", let count = Int(words[1]) else {
            throw TestFailure("not drained: \(line ?? "no line")")
        }
        return count
    }

    @Test(arguments: 0..<8)
    func `every response of a session reaches its MTA before the end`(_ round: Int) throws {
        let load = Load()
        let filter = filter
        let pid = filter.process.processIdentifier
        let path = path
        onThreads(17) { index in
            guard index == 16 else { return load.run(path) }
            while load.answers.load(ordering: .relaxed) < 100 + round * 777 { usleep(1_000) }
            kill(pid, SIGTERM)
        }
        let count = try verdicts(try filter.line())
        #expect(filter.status() == 0)
        #expect(load.answers.load(ordering: .relaxed) == count)
        #expect(count >= 100)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func `the filter finishes a call in progress before it ends`() throws {
        let connection = try MTAConnection.started(path: path)
        connection.send("R", ["<slow@test>"])
        let late = try MTAConnection.started(path: path)
        usleep(100_000)
        filter.signal(SIGTERM)
        usleep(50_000)
        // This recipient comes after the gate is shut: it gets no verdict, and isn't counted.
        late.send("R", ["<reject@test>"])
        #expect(connection.receive()?.command == "r")
        #expect(try verdicts(try filter.line()) == 1)
        #expect(late.receive() == nil)
        #expect(filter.status() == 0)
    }

    /// At the very start, another thread may get the signal.
    @Test func `a signal right after the start ends the filter`() throws {
        for _ in 0..<30 {
            let path = folder.file("t")
            let filter = try FilterProcess.serving(path)
            filter.signal(SIGTERM)
            #expect(try verdicts(try filter.line()) == 0)
            #expect(filter.status() == 0)
            #expect(!FileManager.default.fileExists(atPath: path))
        }
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func `an idle filter ends on a signal`(_ number: Int32) throws {
        let connection = try MTAConnection.started(path: path)
        #expect(try connection.recipient("<accept@test>").command == "c")
        filter.signal(number)
        #expect(try verdicts(try filter.line()) == 1)
        #expect(filter.status() == 0)
        #expect(connection.receive() == nil)
    }

    /// libmilter would stop at the first SIGHUP.
    @Test func `SIGHUP is ignored and SIGUSR1 reported under load`() throws {
        let load = Load()
        let pid = filter.process.processIdentifier
        let path = path
        onThreads(5) { index in
            guard index == 4 else { return load.run(path) }
            for round in 0..<600 {
                kill(pid, SIGHUP)
                if round.isMultiple(of: 3) { kill(pid, SIGUSR1) }
                if round.isMultiple(of: 20) { usleep(2_000) }
            }
            load.isOver.store(true, ordering: .relaxed)
        }
        #expect(load.lost.load(ordering: .relaxed) == 0)
        #expect(try MTAConnection.started(path: path).recipient("<accept@test>").command == "c")
        // SIGUSR1 and SIGTERM at the same time.
        filter.signal(SIGUSR1)
        filter.signal(SIGTERM)
        filter.signal(SIGHUP)
        var line = try filter.line()
        var reloads = 0
        while line == "reload" {
            reloads += 1
            line = try filter.line()
        }
        #expect(reloads > 0)
        #expect(try verdicts(line) == load.answers.load(ordering: .relaxed) + 1)
        #expect(filter.status() == 0)
    }
}
