import CMilter
import Synchronization

extension MilterServer {
    /// What the MTA needn't do for this filter: no answer but to RCPT, no message; but tell of what it refused itself.
    ///
    /// libmilter answers in the filter's place where an MTA wants an answer to connect, HELO or MAIL all the same.
    static let wantedSteps = UInt(
        SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NODATA | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY
            | SMFIP_NOUNKNOWN | SMFIP_RCPT_REJ)

    /// Names the macros that are wanted to an MTA that can be told; gives the actions to ask for.
    func negotiate(_ context: OpaquePointer, actions: UInt) -> UInt {
        let settable = UInt(SMFIF_SETSYMLIST)
        guard actions & settable != 0 else { return 0 }
        for (stage, names) in configuration.macros {
            _ = cmilter_setsymlist(context, stage.rawValue, names.joined(separator: " "))
        }
        return settable
    }

    /// Makes the session of a connection; libmilter owns it until ``end(_:)``.
    func begin(_ context: OpaquePointer, _ connection: MilterConnection) {
        let activity = SessionActivity()
        activities.withLock { $0[ObjectIdentifier(activity)] = activity }
        countSession()
        activity.enter(thread: cmilter_thread())
        if isGateShut { parkForever(activity) }
        defer { activity.leave(answering: nil) }
        // The layout shows once libmilter has stored a pointer that is known here.
        let marker = Unmanaged.passUnretained(activity).toOpaque()
        smfi_setpriv(context, marker)
        let isLayoutKnown = cmilter_knows(context, marker) != 0
        let box = SessionBox(server: self, activity: activity, isLayoutKnown: isLayoutKnown)
        box.session = makeSession(connection, MilterContext(context, isLayoutKnown: isLayoutKnown))
        smfi_setpriv(context, Unmanaged.passRetained(box).toOpaque())
    }

    /// Gives up the session of a connection, if it has one.
    func end(_ context: OpaquePointer) {
        guard let pointer = smfi_getpriv(context) else { return }
        let box = Unmanaged<SessionBox>.fromOpaque(pointer)
        let activity = box._withUnsafeGuaranteedRef { $0.activity }
        activity.enter(thread: cmilter_thread())
        if isGateShut { parkForever(activity) }
        smfi_setpriv(context, nil)
        box._withUnsafeGuaranteedRef { $0.session?.close() }
        box.release()
        activity.leave(answering: nil)
        activities.withLock { $0[ObjectIdentifier(activity)] = nil }
    }
}
