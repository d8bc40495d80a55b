import Foundation
import Milter
import Synchronization
import System

/// What happened in the whole process.
final class Counters: Sendable {
    static let shared = Counters()
    let closed = Atomic<Int>(0)
    let freed = Atomic<Int>(0)
    let aborts = Atomic<Int>(0)
    let verdicts = Atomic<Int>(0)
}

func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }

func complain(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }

/// The arguments after the socket: the permissions of a unix socket in octal, or `connections=`, `packet=` and `first=` with a number, the latter
/// two in milliseconds.
func makeServer(socket: String, options: ArraySlice<String>) throws -> MilterServer {
    let mode = options.lazy.compactMap { UInt32($0, radix: 8) }.first
    func number(_ name: String) -> Int? {
        options.first { $0.hasPrefix("\(name)=") }.flatMap { Int($0.dropFirst(name.count + 1)) }
    }
    var configuration = MilterConfiguration(
        name: "test-filter", socket: try MilterSocket(socket), socketMode: mode, backlog: 512,
        macros: [
            .connect: ["j"], .helo: [], .mail: ["{auth_authen}"], .recipient: ["i", "{rcpt_mailer}", "{rcpt_host}"],
        ])
    if let limit = number("connections") { configuration.maximumConnections = limit }
    if let time = number("packet") { configuration.packetTimeout = Int64(time) }
    if let time = number("first") { configuration.firstPacketTimeout = Int64(time) }
    let holder = ServerHolder()
    let server = MilterServer(configuration) { connection, context in
        TestSession(connection, name: text(context.macro("j")), holder: holder)
    }
    holder.server.withLock { $0 = server }
    return server
}

final class ServerHolder: Sendable {
    let server = Mutex<MilterServer?>(nil)
}

func startThreads(_ server: MilterServer) {
    NamedThread.start("server") {
        do { try server.run() } catch {
            complain("\(error)")
            _exit(70)
        }
    }
    let parent = getppid()
    NamedThread.start("parent") {
        while getppid() == parent { usleep(500_000) }
        _exit(71)
    }
}

func text(_ bytes: UnsafeBufferPointer<UInt8>?) -> String {
    bytes.map { String(decoding: $0, as: UTF8.self) } ?? "-"
}

/// Answers by the recipient's local part.
final class TestSession: MilterSession {
    private let connection: MilterConnection
    private let name: String
    private let holder: ServerHolder
    private var greeting = "-"
    private var sender = "-"
    private var isClosed = false

    init(_ connection: MilterConnection, name: String, holder: ServerHolder) {
        self.connection = connection
        self.name = name
        self.holder = holder
    }

    deinit { Counters.shared.freed.add(1, ordering: .relaxed) }

    func helo(_ context: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) { greeting = text(name) }

    func mail(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) {
        sender = (0..<arguments.count).map { text(arguments[$0]) }.joined(separator: " ")
        sender += " " + text(context.macro("{auth_authen}"))
    }

    func abort(_ context: borrowing MilterContext) { Counters.shared.aborts.add(1, ordering: .relaxed) }

    func close() {
        precondition(!isClosed, "closed twice")
        isClosed = true
        Counters.shared.closed.add(1, ordering: .relaxed)
    }

    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        Counters.shared.verdicts.add(1, ordering: .relaxed)
        let path = arguments.path
        if path.starts(with: "<accept@".utf8) { return .continue }
        if path.starts(with: "<reject@".utf8) {
            return context.refuse(ReplyCodes(code: "550", enhancedCode: "5.1.1"), text: path)
        }
        return rarer(context, text(path))
    }

    private func rarer(_ context: borrowing MilterContext, _ path: String) -> MilterResponse {
        switch path.drop(while: { $0 == "<" }).prefix(while: { $0 != "@" }) {
        case "temporary": return refuse(context, "451", "4.3.0", "try again, 100% sure")
        case "plain-reject": return .reject
        case "plain-tempfail": return .tempfail
        case "message": return .accept
        case "discard": return .discard
        case "long": return refuse(context, "550", "5.1.1", String(repeating: "é", count: 2_000))
        case "control": return refuse(context, "550", "5.1.1", "a\r\n250 b\0c")
        case "mismatch": return refuse(context, "550", "4.1.1", "class")
        case "slow":
            Thread.sleep(forTimeInterval: 0.3)
            return .reject
        case "held":
            let isHeld = context.wait { Thread.sleep(forTimeInterval: 1.5) }
            return refuse(context, "550", "5.0.0", isHeld ? "held" : "not held")
        case "stuck":
            Thread.sleep(forTimeInterval: 60)
            return .reject
        case "server": return refuse(context, "550", "5.0.0", serverStatistics())
        case "stats": return refuse(context, "550", "5.0.0", statistics())
        case "state":
            return refuse(
                context, "550", "5.0.0",
                "\(connection.hostname)|"
                    + (connection.address.map(String.init(describing:)) ?? (connection.isLocal ? "unix" : "-"))
                    + "|\(name)|\(greeting)|\(sender)")
        case "macros":
            return refuse(
                context, "550", "5.0.0",
                [context.macro("i"), context.macro("{rcpt_mailer}"), context.macro("{rcpt_host}"), context.macro("x")]
                    .map { text($0) }.joined(separator: "|"))
        default: return .continue
        }
    }

    private func refuse(
        _ context: borrowing MilterContext, _ code: String, _ enhancedCode: String, _ text: String
    ) -> MilterResponse {
        var text = text
        return text.withUTF8 { context.refuse(ReplyCodes(code: code, enhancedCode: enhancedCode), text: $0) }
    }

    private func serverStatistics() -> String {
        guard let statistics = holder.server.withLock({ $0?.statistics }) else { return "none" }
        return "connections=\(statistics.connections) limit=\(statistics.connectionLimit)"
            + " deferred=\(statistics.deferredConnections) dropped=\(statistics.droppedConnections)"
            + " expired=\(statistics.expiredConnections) shortage=\(statistics.lastDescriptorShortage == nil ? 0 : 1)"
    }

    private func statistics() -> String {
        let counters = Counters.shared
        let (open, total) = holder.server.withLock { ($0?.openSessions ?? -1, $0?.totalSessions ?? -1) }
        return "open=\(open) total=\(total) closed=\(counters.closed.load(ordering: .relaxed))"
            + " freed=\(counters.freed.load(ordering: .relaxed)) aborts=\(counters.aborts.load(ordering: .relaxed))"
            + " verdicts=\(counters.verdicts.load(ordering: .relaxed))"
    }
}
