import CMilter

/// What libmilter's private pointer of a connection points to: retained at connect, released at close.
///
/// Not `Sendable`: libmilter's threads take turns with it, one call of a connection at a time.
final class SessionBox {
    let server: MilterServer
    let activity: SessionActivity
    /// Whether the macros of this connection's context may be read directly.
    let isLayoutKnown: Bool
    let session: any MilterSession

    init(server: MilterServer, activity: SessionActivity, isLayoutKnown: Bool, session: any MilterSession) {
        self.server = server
        self.activity = activity
        self.isLayoutKnown = isLayoutKnown
        self.session = session
    }
}

/// Calls the session of a connection unless the server is being drained; nil when there is no session.
///
/// - Parameter answers: whether the MTA waits for what the call returns.
func withSession<Result>(
    _ handle: OpaquePointer?, answers: Bool = false,
    _ body: (any MilterSession, borrowing MilterContext) -> Result
) -> Result? {
    guard let handle, let pointer = smfi_getpriv(handle) else { return nil }
    return Unmanaged<SessionBox>.fromOpaque(pointer)._withUnsafeGuaranteedRef { box in
        let thread = cmilter_thread()
        box.activity.enter(thread: thread)
        if box.server.isGateShut { parkForever(box.activity) }
        defer { box.activity.leave(answering: answers ? thread : nil) }
        return body(box.session, MilterContext(handle, isLayoutKnown: box.isLayoutKnown))
    }
}

/// Holds a thread of libmilter's back until the process ends.
func parkForever(_ activity: SessionActivity?) -> Never {
    activity?.park()
    while true { sleep(3600) }
}
