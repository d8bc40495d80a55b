import Foundation
import TestSupport
import Testing

/// Silent, slow, half-open and too many connections, which must not delay others.
@Suite(.serialized) struct ConnectionTests {
    let folder: TemporaryFolder
    let path: String

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file("s")
    }

    private func expectService(_ count: Int = 20, _ place: SourceLocation = #_sourceLocation) throws {
        let connection = try MTAConnection.started(path: path)
        for _ in 0..<count {
            #expect(try connection.recipient("<accept@test>").command == "c", sourceLocation: place)
        }
    }

    @Test func `thousands of silent or half-open connections cost no thread and delay no other`() throws {
        let filter = try FilterProcess.serving(path, ["packet=60000", "first=60000"])
        let path = path
        let silent = try (0..<2_000).map { _ in try MTAConnection(path: path) }
        // Halves of a negotiation, of a macro, and of a recipient.
        let beginnings: [[UInt8]] = [[0, 0], [0, 0, 0, 13, 0x4f, 0, 0]]
        let half = try (0..<2_000).map { number in
            let connection = number.isMultiple(of: 2) ? try MTAConnection(path: path) : try .started(path: path)
            connection.write(
                number.isMultiple(of: 2)
                    ? beginnings[number / 2 % 2] : Array(MTAConnection.packet("R", [0x3c, 0x61]).dropLast()))
            return connection
        }
        onThreads(16) { _ in
            guard let connection = try? MTAConnection.started(path: path) else {
                Issue.record("no connection")
                return
            }
            for _ in 0..<200 { #expect((try? connection.recipient("<reject@test>"))?.command == "y") }
        }
        let watcher = try MTAConnection.started(path: path)
        let statistics = try watcher.statistics("<server@test>")
        #expect(statistics["connections"] == 4_001)
        // A thread for each connection would show in the memory.
        let threads = try FileManager.default.contentsOfDirectory(
            atPath: "/proc/\(filter.process.processIdentifier)/task")
        #expect(threads.count < 100)
        withExtendedLifetime((silent, half)) {}
    }

    @Test func `half packets cost no thread, even if the user may have few threads`() throws {
        // The limit counts all threads of a user, so the filter runs as a user of its own, which needs root.
        guard geteuid() == 0 else { return }
        let executable = URL(fileURLWithPath: folder.file("filter"))
        try FileManager.default.copyItem(at: FilterProcess.executable, to: executable)
        chmod(folder.path, 0o777)
        let filter = try FilterProcess.serving(
            path, ["packet=60000"],
            launcher: [
                "/usr/bin/prlimit", "--nproc=60", "/usr/bin/setpriv", "--reuid=64321", "--clear-groups",
            ], executable: executable)
        let half = try (0..<120).map { _ in
            let connection = try MTAConnection.started(path: path)
            connection.write([0, 0])
            return connection
        }
        try expectService()
        withExtendedLifetime((filter, half)) {}
    }

    @Test func `a packet must arrive whole within the timeout, in any number of pieces`() throws {
        let filter = try FilterProcess.serving(path, ["packet=800"])
        let dripping = try MTAConnection.started(path: path)
        let packet = MTAConnection.packet("R", Array(repeating: 0x61, count: 60_000))
        var written = 0
        while written < 400, dripping.write([packet[written]]) {
            written += 1
            usleep(50_000)
        }
        #expect(written < 400)
        let watcher = try MTAConnection.started(path: path)
        #expect(try watcher.statistics("<server@test>")["expired"] == 1)
        #expect(try watcher.statistics()["open"] == 1)
        withExtendedLifetime(filter) {}
    }

    @Test func `the timeout of the first packet is short, that of later ones long`() throws {
        let filter = try FilterProcess.serving(path, ["first=700", "packet=300"])
        let silent = try MTAConnection(path: path)
        let idle = try MTAConnection.started(path: path)
        #expect(silent.receive() == nil)
        usleep(1_500_000)
        #expect(try idle.recipient("<accept@test>").command == "c")
        withExtendedLifetime(filter) {}
    }

    @Test func `recipients of connections over the limit are deferred`() throws {
        let filter = try FilterProcess.serving(path, ["connections=3"])
        var within: [MTAConnection] = []
        for _ in 0..<3 {
            within.append(try .started(path: path))
            #expect(try within.last?.recipient("<accept@test>").command == "c")
        }
        var over: [MTAConnection] = []
        for _ in 0..<8 {
            let connection = try MTAConnection.started(path: path)
            let answer = try connection.recipient("<accept@test>")
            #expect(answer.command == "y")
            #expect(answer.text == "451 4.3.2 Too many connections to the recipient filter; try again later")
            over.append(connection)
        }
        // Further connections are closed at once.
        let far = try MTAConnection(path: path)
        #expect(throws: TestFailure.self) { try far.negotiate() }
        let statistics = try within[0].statistics("<server@test>")
        #expect(statistics["limit"] == 3)
        #expect(statistics["deferred"] == 8)
        #expect(statistics["dropped"] == 1)
        over.removeAll()
        within.removeLast()
        // The server notices closed connections a little later; until then, it drops a new one.
        var isServed = false
        for _ in 0..<250 where !isServed {
            let answer = try? MTAConnection.started(path: path).recipient("<accept@test>")
            isServed = answer?.command == "c"
            if !isServed { usleep(20_000) }
        }
        #expect(isServed)
        #expect(filter.isRunning)
    }

    @Test func `without free descriptors, new connections are closed and open ones served`() throws {
        let filter = try FilterProcess.serving(path, launcher: ["/usr/bin/prlimit", "--nofile=40"])
        let first = try MTAConnection.started(path: path)
        #expect(try first.recipient("<accept@test>").command == "c")
        let limit = try #require(try first.statistics("<server@test>")["limit"])
        #expect(limit > 0 && limit < 40)
        var others: [MTAConnection] = []
        var answers: [String: Int] = [:]
        for _ in 0..<200 {
            let connection = try MTAConnection(path: path)
            guard (try? connection.negotiate()) != nil else {
                answers["closed", default: 0] += 1
                continue
            }
            connection.begin()
            answers[String(try connection.recipient("<accept@test>").command), default: 0] += 1
            others.append(connection)
        }
        // Some are answered, some deferred, most closed; none waits.
        #expect(answers["c"] == limit - 1)
        #expect(answers["y", default: 0] > 0)
        #expect(answers["closed", default: 0] > 100)
        #expect(try first.recipient("<accept@test>").command == "c")
        #expect(filter.isRunning)
    }

    @Test func `a call that waits delays no other connection`() throws {
        let filter = try FilterProcess.serving(path)
        let path = path
        let held = try (0..<40).map { _ in try MTAConnection.started(path: path) }
        for connection in held { connection.send("R", ["<held@test>"]) }
        try expectService(200)
        for connection in held { #expect(connection.receive()?.text == "550 5.0.0 held") }
        // The threads that served the other connections meanwhile end.
        let tasks = "/proc/\(filter.process.processIdentifier)/task"
        for attempt in 0..<200 {
            try expectService(50)
            if try FileManager.default.contentsOfDirectory(atPath: tasks).count < 30 { break }
            #expect(attempt < 199)
        }
    }

    @Test func `a peer that reads no replies loses its connection`() throws {
        let filter = try FilterProcess.serving(path)
        let deaf = try MTAConnection.started(path: path)
        let packet = MTAConnection.packet("R", MTAConnection.strings(["<reject@test>"]))
        var written = 0
        while written < 200_000, deaf.write(packet) { written += 1 }
        #expect(written < 200_000)
        try expectService()
        withExtendedLifetime(filter) {}
    }

    @Test func `the second signal ends the filter at once`() throws {
        let filter = try FilterProcess.serving(path)
        let connection = try MTAConnection.started(path: path)
        connection.send("R", ["<stuck@test>"])
        // The call has begun once it is counted.
        let watcher = try MTAConnection.started(path: path)
        var asked = 1
        while try watcher.statistics()["verdicts"] != asked + 1 { asked += 1 }
        filter.signal(SIGTERM)
        // The server removes the socket when it begins to end.
        while FileManager.default.fileExists(atPath: path) { usleep(10_000) }
        // Within a second, a second signal is ignored.
        filter.signal(SIGTERM)
        usleep(2_100_000)
        #expect(filter.isRunning)
        filter.signal(SIGTERM)
        #expect(filter.status() == -SIGTERM)
        withExtendedLifetime(connection) {}
    }
}
