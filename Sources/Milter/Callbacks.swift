import CMilter

// What libmilter's engine calls, from any thread of the pool. Functions of file scope: a closure would be isolated to the main actor in some
// places and kill the process on another thread.

typealias CStringList = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// `xxfi_negotiate`: names the macros that are wanted to an MTA that can be told, and says which events are wanted and answered.
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

/// `xxfi_connect`: makes the session.
func connectCallback(
    _ context: OpaquePointer?, _ hostname: UnsafeMutablePointer<CChar>?, _ address: UnsafeMutablePointer<sockaddr>?
) -> sfsistat {
    guard let context, let channel = Channel.of(context) else { return SMFIS_TEMPFAIL }
    // No MTA says this twice in a connection, but what comes over the socket may.
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

/// `xxfi_helo`
func heloCallback(_ context: OpaquePointer?, _ name: UnsafeMutablePointer<CChar>?) -> sfsistat {
    guard let name else { return SMFIS_NOREPLY }
    withSession(context) { $0.helo($1, name: UnsafeBufferPointer(cString: name)) }
    return SMFIS_NOREPLY
}

/// `xxfi_envfrom`
func mailCallback(_ context: OpaquePointer?, _ arguments: CStringList?) -> sfsistat {
    withSession(context) { $0.mail($1, arguments: MilterArguments(arguments)) }
    return SMFIS_NOREPLY
}

/// `xxfi_envrcpt`: the one that the MTA waits for; without a session, as garbage may have it, a tempfail.
func recipientCallback(_ context: OpaquePointer?, _ arguments: CStringList?) -> sfsistat {
    let response = withSession(context) { session, context in
        session.recipient(context, arguments: MilterArguments(arguments))
    }
    return (response ?? .tempfail).status
}

/// `xxfi_abort`; it comes too when the engine has only run out of packets.
func abortCallback(_ context: OpaquePointer?) -> sfsistat {
    guard !isPause(context) else { return SMFIS_CONTINUE }
    withSession(context) { $0.abort($1) }
    return SMFIS_CONTINUE
}

/// `xxfi_close`: comes for every connection, one without a session too, and before a new client on the same connection; and, as `xxfi_abort`,
/// when the engine has only run out of packets.
func closeCallback(_ context: OpaquePointer?) -> sfsistat {
    guard !isPause(context), let channel = Channel.of(context) else { return SMFIS_CONTINUE }
    endSession(channel)
    return SMFIS_CONTINUE
}

/// Whether the engine ends its work only to go on when the next packet has come.
private func isPause(_ context: OpaquePointer?) -> Bool {
    Channel.of(context)?.pointee.stream?.pointee.isWaiting ?? false
}

/// Tells the session of a connection, if there is one, that it is over.
func endSession(_ channel: UnsafeMutablePointer<Channel>) {
    guard let box = channel.pointee.session else { return }
    channel.pointee.session = nil
    box._withUnsafeGuaranteedRef { $0.session.close() }
    box.release()
    channel.pointee.server._withUnsafeGuaranteedRef { $0.count(session: -1) }
}

/// Calls the session of a connection; nil when there is none.
private func withSession<Result>(
    _ context: OpaquePointer?, _ body: (any MilterSession, borrowing MilterContext) -> Result
) -> Result? {
    guard let context, let box = Channel.of(context)?.pointee.session else { return nil }
    return box._withUnsafeGuaranteedRef { body($0.session, MilterContext(context)) }
}

extension MilterResponse {
    /// libmilter's value for it.
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
