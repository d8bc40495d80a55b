import CMilter
import Glibc
import Synchronization
import System

/// libmilter's engine (`mi_engine`): the callbacks that it is given, and a check that it works as the server expects.
enum MilterEngine {
    /// The description of a filter for libmilter, never freed. libmilter writes the name into its messages to syslog.
    static func makeFilter(name: String) -> UnsafeMutablePointer<smfiDesc> {
        let filter = UnsafeMutablePointer<smfiDesc>.allocate(capacity: 1)
        filter.initialize(
            to: smfiDesc(
                xxfi_name: strdup(name), xxfi_version: Int32(SMFI_VERSION), xxfi_flags: UInt(SMFIF_SETSYMLIST),
                xxfi_connect: connectCallback, xxfi_helo: heloCallback, xxfi_envfrom: mailCallback,
                xxfi_envrcpt: recipientCallback, xxfi_header: nil, xxfi_eoh: nil, xxfi_body: nil, xxfi_eom: nil,
                xxfi_abort: abortCallback, xxfi_close: closeCallback, xxfi_unknown: nil, xxfi_data: nil,
                xxfi_negotiate: negotiateCallback))
        return filter
    }

    /// The protocol steps that the filter asks for: replies to RCPT only, no message content, and also the recipients
    /// that the MTA has rejected itself.
    ///
    /// If an MTA wants replies to connect, HELO or MAIL all the same, the engine gives them.
    static let wantedSteps = UInt(
        SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NODATA | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY
            | SMFIP_NOUNKNOWN | SMFIP_RCPT_REJ)

    private static let checked = Mutex<Result<Void, MilterError>?>(nil)

    /// Throws unless libmilter's engine uses the server's packet functions, continues after a pause, and has the
    /// context layout of `CMilter/shim.h`.
    ///
    /// Checked once, by a short conversation over a socket pair: negotiation, macros and a client's connection, with
    /// pauses in between.
    static func check() throws(MilterError) {
        let result = checked.withLock { checked in
            let result = checked ?? Result { () throws(MilterError) in try runCheck() }
            checked = result
            return result
        }
        try result.get()
    }

    private final class Probe: MilterSession {
        func recipient(_: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse { .reject }
    }

    private static func runCheck() throws(MilterError) {
        let isSound = Atomic<Bool>(false)
        let server = MilterServer(MilterConfiguration(name: "check", socket: .nowhere)) { connection, context in
            // The macro proves the place of the macro lists, the private pointer that of the other fields.
            let isMacroRight = context.macro("j").map { Array($0) == Array("host".utf8) } ?? false
            let marker = UnsafeMutableRawPointer(context.handle)
            smfi_setpriv(context.handle, marker)
            let isLayoutRight = cmilter_knows(context.handle, marker) != 0
            smfi_setpriv(context.handle, nil)
            isSound.store(
                isMacroRight && isLayoutRight && connection.address == IPAddress(ipv4: 0xc000_0201), ordering: .relaxed)
            return Probe()
        }
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw MilterError(.unusable, "milter: can't create a file descriptor: \(systemMessage())")
        }
        defer { for end in ends { close(end) } }
        let isRight = try server.converse(
            ends[0], ends[1],
            [
                // Version 6, SMFIF_SETSYMLIST, all steps.
                packet("O", [0, 0, 0, 6, 0, 0, 1, 0, 0, 0x1f, 0xff, 0xff]),
                packet("D", Array("Cj\0host\0".utf8)),
                packet("C", Array("h\u{0}4\u{0}\u{19}192.0.2.1\0".utf8)),
            ])
        guard isRight, isSound.load(ordering: .relaxed) else {
            throw MilterError(
                .libmilter,
                "libmilter: Postern doesn't work with this version of the library; "
                    + "install libmilter 8.14 to 8.18 as Debian packages it")
        }
    }

    private static func packet(_ command: Unicode.Scalar, _ data: [UInt8]) -> [UInt8] {
        [0, 0, 0, UInt8(truncatingIfNeeded: data.count + 1), UInt8(ascii: command)] + data
    }
}

// The functions that libmilter's engine calls, on any thread of the pool. They are functions of file scope: a closure
// could be isolated to the main actor, and would end the process on another thread.

typealias CStringList = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// `xxfi_negotiate`: requests macros, if the MTA supports that, and the protocol steps.
func negotiateCallback(
    _ context: OpaquePointer?, _ actions: UInt, _ steps: UInt, _: UInt, _: UInt,
    _ wantedActions: UnsafeMutablePointer<UInt>?, _ wantedSteps: UnsafeMutablePointer<UInt>?,
    _: UnsafeMutablePointer<UInt>?, _: UnsafeMutablePointer<UInt>?
) -> sfsistat {
    guard let context, let channel = Channel.of(context) else { return SMFIS_REJECT }
    let settable = actions & UInt(SMFIF_SETSYMLIST)
    if settable != 0 {
        for (stage, names) in channel.pointee.server._withUnsafeGuaranteedRef({ $0.configuration.macros }) {
            _ = cmilter_setsymlist(context, stage.rawValue, names.joined(separator: " "))
        }
    }
    wantedActions?.pointee = settable
    wantedSteps?.pointee = MilterEngine.wantedSteps & steps
    return SMFIS_CONTINUE
}

/// `xxfi_connect`: creates the session.
func connectCallback(
    _ context: OpaquePointer?, _ hostname: UnsafeMutablePointer<CChar>?, _ address: UnsafeMutablePointer<sockaddr>?
) -> sfsistat {
    guard let context, let channel = Channel.of(context) else { return SMFIS_TEMPFAIL }
    // No MTA sends this twice in a connection, but any other program could.
    endSession(channel)
    let connection = MilterConnection(hostname: hostname.map { String(cString: $0) } ?? "", address)
    channel.pointee.server._withUnsafeGuaranteedRef { server in
        server.count(session: 1)
        let session =
            channel.pointee.isOverLimit
            ? OverloadedSession() : server.makeSession(connection, MilterContext(context))
        channel.pointee.session = Unmanaged.passRetained(SessionBox(session))
    }
    return SMFIS_NOREPLY
}

/// `xxfi_helo`: HELO or EHLO.
func heloCallback(_ context: OpaquePointer?, _ name: UnsafeMutablePointer<CChar>?) -> sfsistat {
    guard let name else { return SMFIS_NOREPLY }
    withSession(context) { $0.helo($1, name: UnsafeBufferPointer(cString: name)) }
    return SMFIS_NOREPLY
}

/// `xxfi_envfrom`: MAIL.
func mailCallback(_ context: OpaquePointer?, _ arguments: CStringList?) -> sfsistat {
    withSession(context) { $0.mail($1, arguments: MilterArguments(arguments)) }
    return SMFIS_NOREPLY
}

/// `xxfi_envrcpt`: RCPT, the only callback that the MTA waits for. A tempfail if there is no session, as garbage on the
/// socket may cause.
func recipientCallback(_ context: OpaquePointer?, _ arguments: CStringList?) -> sfsistat {
    let response = withSession(context) { $0.recipient($1, arguments: MilterArguments(arguments)) }
    return (response ?? .tempfail).status
}

/// `xxfi_abort`: the message ends unaccepted. The engine also calls it when it has run out of packets.
func abortCallback(_ context: OpaquePointer?) -> sfsistat {
    guard !isPause(context) else { return SMFIS_CONTINUE }
    withSession(context) { $0.abort($1) }
    return SMFIS_CONTINUE
}

/// `xxfi_close`: the connection ends, or the MTA begins with another client on the same connection. There may be no
/// session. The engine also calls it when it has run out of packets.
func closeCallback(_ context: OpaquePointer?) -> sfsistat {
    guard !isPause(context), let channel = Channel.of(context) else { return SMFIS_CONTINUE }
    endSession(channel)
    return SMFIS_CONTINUE
}

/// Whether the engine returns only because the next packet hasn't arrived yet.
private func isPause(_ context: OpaquePointer?) -> Bool {
    Channel.of(context)?.pointee.stream?.pointee.isWaiting ?? false
}

/// Ends the session of a connection, if there is one.
func endSession(_ channel: UnsafeMutablePointer<Channel>) {
    guard let box = channel.pointee.session else { return }
    channel.pointee.session = nil
    box._withUnsafeGuaranteedRef { $0.session.close() }
    box.release()
    channel.pointee.server._withUnsafeGuaranteedRef { $0.count(session: -1) }
}

/// Calls the body with the session of a connection; nil if there is none.
private func withSession<Result>(
    _ context: OpaquePointer?, _ body: (any MilterSession, borrowing MilterContext) -> Result
) -> Result? {
    guard let context, let box = Channel.of(context)?.pointee.session else { return nil }
    return box._withUnsafeGuaranteedRef { body($0.session, MilterContext(context)) }
}

extension MilterResponse {
    /// libmilter's value of the response.
    var status: sfsistat {
        switch self {
        case .continue: SMFIS_CONTINUE
        case .accept: SMFIS_ACCEPT
        case .reject: SMFIS_REJECT
        case .tempfail: SMFIS_TEMPFAIL
        case .discard: SMFIS_DISCARD
        }
    }
}

extension MilterServer {
    /// Has the engine read packets from a socket pair, one at a time with a pause after each; for
    /// ``MilterEngine/check()``.
    ///
    /// - Parameters:
    ///   - own: the end that the engine reads.
    ///   - peer: the end that the packets are written to.
    ///   - packets: a negotiation, then other packets.
    /// - Returns: whether the connection stayed open and the engine answered the negotiation.
    func converse(_ own: Int32, _ peer: Int32, _ packets: [[UInt8]]) throws(MilterError) -> Bool {
        let stream = UnsafeMutablePointer<PacketStream>.allocate(capacity: 1)
        defer { stream.deallocate() }
        let readyFile = cmilter_ready_file()
        guard readyFile >= 0 else {
            throw MilterError(.unusable, "milter: can't create a file descriptor: \(systemMessage())")
        }
        defer { close(readyFile) }
        stream.initialize(to: PacketStream(readyDescriptor: readyFile))
        defer { stream.deinitialize(count: 1) }
        guard
            let channel = Channel.make(
                descriptor: own, isTCP: false, isOverLimit: false, server: self, pool: nil, deadline: .max)
        else { return false }
        defer { Channel.destroy(channel) }
        for packet in packets {
            guard send(peer, packet, packet.count, Int32(MSG_NOSIGNAL)) == packet.count else { return false }
            stream.pointee.begin(with: UnsafeMutableRawBufferPointer(start: nil, count: 0))
            guard stream.pointee.receive(from: own), stream.pointee.hasWork, runEngine(channel, stream) else {
                return false
            }
        }
        endEngine(channel, stream)
        var answer = [UInt8](repeating: 0, count: 5)
        return recv(peer, &answer, answer.count, Int32(MSG_DONTWAIT)) == answer.count
            && answer[4] == UInt8(ascii: "O")
    }
}
