import CMilter

// What libmilter calls, from any thread of its pool. Functions of file scope: a closure would be isolated to the main
// actor in some places and kill the process on another thread.

typealias CStringList = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// `xxfi_negotiate`: says which events are wanted and which are answered.
func negotiateCallback(
    _ context: OpaquePointer?, _ actions: UInt, _ steps: UInt, _: UInt, _: UInt,
    _ wantedActions: UnsafeMutablePointer<UInt>?, _ wantedSteps: UnsafeMutablePointer<UInt>?,
    _: UnsafeMutablePointer<UInt>?, _: UnsafeMutablePointer<UInt>?
) -> sfsistat {
    guard let context, let server = MilterServer.registered else { return SMFIS_REJECT }
    if server.isGateShut { parkForever(nil) }
    wantedActions?.pointee = server.negotiate(context, actions: actions)
    wantedSteps?.pointee = MilterServer.wantedSteps & steps
    return SMFIS_CONTINUE
}

/// `xxfi_connect`: makes the session and hands it to libmilter.
func connectCallback(
    _ context: OpaquePointer?, _ hostname: UnsafeMutablePointer<CChar>?, _ address: UnsafeMutablePointer<sockaddr>?
) -> sfsistat {
    guard let context, let server = MilterServer.registered else { return SMFIS_TEMPFAIL }
    // No MTA says this twice in a connection, but what comes over the socket may.
    server.end(context)
    let connection = MilterConnection(
        hostname: hostname.map { String(cString: $0) } ?? "", address: ClientAddress(address))
    server.begin(context, connection)
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
    let response = withSession(context, answers: true) { session, context in
        session.recipient(context, arguments: MilterArguments(arguments))
    }
    return (response ?? .tempfail).status
}

/// `xxfi_abort`
func abortCallback(_ context: OpaquePointer?) -> sfsistat {
    withSession(context) { $0.abort($1) }
    return SMFIS_CONTINUE
}

/// `xxfi_close`: comes for every connection, one without a session too, and before a new client on the same connection.
func closeCallback(_ context: OpaquePointer?) -> sfsistat {
    guard let context, let server = MilterServer.registered else { return SMFIS_CONTINUE }
    server.end(context)
    return SMFIS_CONTINUE
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
