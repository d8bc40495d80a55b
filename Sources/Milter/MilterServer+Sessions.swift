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
        acknowledgePromptly(context)
        let settable = UInt(SMFIF_SETSYMLIST)
        guard actions & settable != 0 else { return 0 }
        for (stage, wanted) in configuration.macros {
            let names = stage == .connect && acknowledger != nil ? wanted + ["v"] : wanted
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
        let isLayoutKnown = cmilter_knows(context, marker, cmilter_in_connect) != 0
        let milter = MilterContext(context, isLayoutKnown: isLayoutKnown)
        if isLayoutKnown, let acknowledger, !Self.isSendmail(milter) { acknowledger.remove(cmilter_socket(context)) }
        let box = SessionBox(
            server: self, activity: activity, isLayoutKnown: isLayoutKnown, session: makeSession(connection, milter))
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
        box._withUnsafeGuaranteedRef { $0.session.close() }
        box.release()
        activity.leave(answering: nil)
        activities.withLock { $0[ObjectIdentifier(activity)] = nil }
    }

    /// Spares an MTA that has connected over TCP the delay of acknowledgements, where libmilter's context is as it is known.
    private func acknowledgePromptly(_ context: OpaquePointer) {
        // A second negotiation, as garbage may have it, finds the session's pointer there, which must stay.
        guard let acknowledger, smfi_getpriv(context) == nil else { return }
        let marker = Unmanaged.passUnretained(acknowledger).toOpaque()
        smfi_setpriv(context, marker)
        let isLayoutKnown = cmilter_knows(context, marker, cmilter_in_negotiate) != 0
        smfi_setpriv(context, nil)
        if isLayoutKnown { acknowledger.add(cmilter_socket(context)) }
    }

    /// Whether the MTA calls itself by a bare number, as Sendmail does (`8.17.1`); Postfix, which writes a packet in one piece
    /// and needs no help, says `Postfix 3.7.11`.
    private static func isSendmail(_ milter: borrowing MilterContext) -> Bool {
        guard let first = milter.macro("v")?.first else { return false }
        return first >= UInt8(ascii: "0") && first <= UInt8(ascii: "9")
    }
}
