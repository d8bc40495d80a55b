import RecipientFilter
import RejectionLog
import System

/// Hands the filter's verdicts to the rejection log.
final class LogSink: VerdictSink {
    private let log: RejectionLog
    /// By the position of a reason in its `allCases`.
    private let reasons: [ReasonSlot]
    private let refusedByMTA: ReasonSlot

    /// A sink for policies whose domains are tagged with the number of their slot in this log.
    init(_ log: RejectionLog) {
        self.log = log
        reasons = Reason.allCases.map { log.slot(forReason: $0.name) }
        refusedByMTA = log.slot(forReason: "mta")
    }

    func record(_ event: borrowing VerdictEvent) {
        let domain = event.domainTag.map(DomainSlot.init(number:)) ?? .foreign
        var entry: LogEvent
        switch event.subject {
        case .refusedByMTA:
            entry = LogEvent(
                time: event.time, outcome: event.reply.first == UInt8(ascii: "4") ? .tempfailed : .refused,
                reason: refusedByMTA, domain: domain)
        case .verdict(let verdict, let observed):
            entry = LogEvent(
                time: event.time, outcome: Self.outcome(verdict.action), observed: observed,
                reason: reasons[Int(verdict.reason.rawValue)], domain: domain)
        }
        entry.recipient = event.recipient
        entry.domainName = event.domain
        entry.sender = event.sender
        entry.client = event.client ?? .unspecified
        entry.clientName = event.clientName
        entry.helo = event.helo
        entry.session = event.queueID
        entry.authenticated = !event.authenticated.isEmpty
        entry.mta = event.mta
        entry.reply = event.reply
        log.record(entry)
    }

    func recordUnlistedSender(_ mailbox: UnsafeBufferPointer<UInt8>, time: Int64) {
        log.recordUnlistedSender(mailbox, time: time)
    }

    private static func outcome(_ action: Verdict.Action) -> Outcome {
        switch action {
        case .accept: .accepted
        case .reject: .refused
        case .tempfail: .tempfailed
        }
    }
}
