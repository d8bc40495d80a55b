import Glibc
import MailAddress
public import Milter
public import RecipientIndex
public import RejectionLog
import System

/// The parts that all sessions of a filter share.
public final class FilterContext: Sendable {
    /// The policy in force.
    public let policy: HotSwap<Policy>
    /// The snapshot of the recipient index in force.
    public let index: HotSwap<IndexSnapshot>
    /// The counts of unknown recipients by client network.
    public let harvest: HarvestTable
    /// The senders of this gateway that the index doesn't list.
    public let senders: UnlistedSenders
    /// Holds back the replies to clients that guess recipients.
    public let tarpit = Tarpit()
    /// How long judging and recording took, without the time in the tarpit.
    public let latency = LatencyHistogram()
    private let log: RejectionLog?
    /// The log's slots by ``Reason/rawValue``.
    private let reasonSlots: [ReasonSlot]
    /// The log's slot for recipients that the MTA itself rejected.
    let mtaSlot: ReasonSlot

    /// The macros that a session reads, by stage. An MTA that supports a choice sends no others.
    public static let macros: [MilterConfiguration.Stage: [String]] = [
        .connect: ["j"], .helo: [],
        .mail: ["i", "{auth_authen}"],
        .recipient: ["i", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"],
    ]

    /// A context of these parts.
    ///
    /// - Parameter log: where verdicts are recorded, the log that gave the policy its domains' slots; nil to record none.
    public init(
        policy: HotSwap<Policy>, index: HotSwap<IndexSnapshot>, harvest: HarvestTable,
        senders: UnlistedSenders = UnlistedSenders(), log: RejectionLog?
    ) {
        self.policy = policy
        self.senders = senders
        self.index = index
        self.harvest = harvest
        self.log = log
        reasonSlots = Reason.allCases.map { log?.slot(forReason: $0.name) ?? .other }
        mtaSlot = log?.slot(forReason: RejectionLog.mtaReason) ?? .other
    }

    /// The session of a new connection, for ``MilterServer``.
    public func session(
        _ connection: MilterConnection, _ milter: borrowing MilterContext
    ) -> any MilterSession {
        FilterSession(connection, milter, context: self)
    }

    /// Takes back the counts of the harvest limit for recipients that exist by the policy and the index in force.
    public func forgiveKnownRecipients() {
        guard let policy = policy.current, policy.harvest.limit > 0, let index = index.current else { return }
        let now = Clocks.wall / 1000
        harvest.forgive { key in
            guard let recipient = try? RecipientAddress(path: key), recipient.hasDomain else { return true }
            let verdict = policy.verdict(for: recipient, client: ClientTrust(), index: index, now: now)
            return verdict.outcome != .accepted && verdict.reason != .leaving
        }
    }

    // MARK: For sessions

    // Never inlined: inlined into a session, each would count a reference to the part that all sessions share.

    @inline(never)
    func record(_ event: borrowing RecipientEvent) { log?.record(event) }

    @inline(never)
    func slot(of reason: Reason) -> ReasonSlot { reasonSlots[Int(reason.rawValue)] }

    @inline(never)
    func judge(
        _ recipient: RecipientAddress, _ client: ClientTrust, policy: Policy, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        policy.verdict(for: recipient, client: client, index: index, senders: senders, now: now)
    }

    @inline(never)
    func recordUnlistedSender(_ mailbox: RecipientAddress, now: Int64) {
        mailbox.withKey { key in
            senders.insert(key, day: now / 86_400_000)
            log?.recordUnlistedSender(key, time: now)
        }
    }

    @inline(never)
    func recordLatency(since began: UInt64) { latency.record(since: began) }

    @inline(never)
    func harvestState(of client: IPAddress, _ limit: Policy.Harvest) -> HarvestTable.LimitState {
        harvest.state(of: client, limit: limit, now: Clocks.monotonicCoarse)
    }

    @inline(never)
    func countUnknown(_ recipient: RecipientAddress, of client: IPAddress, _ limit: Policy.Harvest) {
        recipient.withKey { harvest.countUnknown($0, of: client, limit: limit, now: Clocks.monotonicCoarse) }
    }

    @inline(never)
    func countKnown(of client: IPAddress, _ limit: Policy.Harvest) {
        harvest.countKnown(of: client, limit: limit, now: Clocks.monotonicCoarse)
    }
}
