import Glibc
import MailAddress
public import Milter
public import RecipientIndex
public import RejectionLog
import Synchronization
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

    /// Counts recipients as known that the harvest limit counted as unknown and that the policy and index in force accept.
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

/// A histogram of the time that judging a recipient took. Threads count without a lock, each mostly in a place of its own.
public final class LatencyHistogram: @unchecked Sendable {
    /// The upper bounds of the buckets in nanoseconds; one more bucket counts longer times.
    public static let bounds: [UInt64] = [
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 100_000_000, 1_000_000_000,
    ]

    /// The counts at one moment.
    public struct Reading: Sendable, Equatable {
        /// The count of each bucket by itself, without the buckets below it.
        public var counts = [Int](repeating: 0, count: LatencyHistogram.bounds.count + 1)
        /// The sum of all times in nanoseconds.
        public var sum = 0
    }

    /// Each place is on cache lines of its own.
    private static let places = 16
    /// The numbers of a place: the buckets' counts, the sum, and padding.
    private static let size = 24
    /// In memory of its own: Swift would count references to an array at each recipient.
    private let numbers: UnsafeMutablePointer<Atomic<Int>>

    /// A histogram without counts.
    public init() {
        numbers = .allocate(capacity: Self.places * Self.size)
        for place in 0..<Self.places * Self.size { (numbers + place).initialize(to: Atomic(0)) }
    }

    deinit {
        numbers.deinitialize(count: Self.places * Self.size)
        numbers.deallocate()
    }

    /// The present moment, for ``record(since:)``.
    @inline(__always)
    static func now() -> UInt64 { Clocks.monotonicNanoseconds }

    /// Counts the time from a moment until now. Takes some tens of nanoseconds; any thread.
    func record(since began: UInt64) { record(Self.now() &- began) }

    func record(_ nanoseconds: UInt64) {
        var bucket = 0
        while bucket < Self.bounds.count, nanoseconds > Self.bounds[bucket] { bucket &+= 1 }
        // Spreads the threads over the places; two threads may share a place.
        let thread = UInt(bitPattern: Int(pthread_self()))
        let place = Int(truncatingIfNeeded: (thread >> 12) &* 0x9E37_79B9_7F4A_7C15 >> 48) & (Self.places - 1)
        let start = numbers + place * Self.size
        start[bucket].wrappingAdd(1, ordering: .relaxed)
        start[Self.bounds.count + 1].wrappingAdd(Int(truncatingIfNeeded: nanoseconds), ordering: .relaxed)
    }

    /// The counts so far.
    public var reading: Reading {
        var reading = Reading()
        for place in 0..<Self.places {
            let start = numbers + place * Self.size
            for bucket in reading.counts.indices {
                reading.counts[bucket] &+= start[bucket].load(ordering: .relaxed)
            }
            reading.sum &+= start[reading.counts.count].load(ordering: .relaxed)
        }
        return reading
    }
}

/// Holds replies back for a while, so that guessing recipients takes a client time.
///
/// A reply that is held back occupies a thread of the server, which starts another in its place (``MilterContext/wait(_:)``). Once as many are held
/// back as the settings allow, further replies go out at once. Any thread.
public final class Tarpit: Sendable {
    private let waiting = Atomic<Int>(0)
    private let isOpen = Atomic<Bool>(false)
    /// A pipe. When its writing end is closed, the reading end wakes all threads that wait. -1 if the system gave no pipe.
    private let readingEnd: Int32
    private let writingEnd: Int32

    /// A tarpit that holds replies back until ``letGo()``.
    public init() {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            bytes.withMemoryRebound(to: Int32.self) { pipe($0.baseAddress) }
        }
        (readingEnd, writingEnd) = status == 0 ? ends : (-1, -1)
        for end in [readingEnd, writingEnd] where end >= 0 { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    }

    deinit {
        letGo()
        if readingEnd >= 0 { close(readingEnd) }
    }

    /// How many replies are held back now.
    public var held: Int { waiting.load(ordering: .relaxed) }

    /// Waits for the time in the settings. Returns at once if the settings have no tarpit, if as many replies are held back as they allow, and
    /// after ``letGo()``.
    ///
    /// - Parameter wait: runs the waiting, such as ``MilterContext/wait(_:)``; not called if there is nothing to wait for.
    public func hold(_ harvest: Policy.Harvest, wait: (() -> Void) -> Void = { $0() }) {
        guard harvest.tarpit > 0, readingEnd >= 0, !isOpen.load(ordering: .relaxed) else { return }
        let place = waiting.add(1, ordering: .relaxed).newValue
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard place <= harvest.tarpitLimit else { return }
        wait { sleep(milliseconds: harvest.tarpit) }
    }

    private func sleep(milliseconds: Int) {
        let end = ContinuousClock.now + .milliseconds(milliseconds)
        var polled = pollfd(fd: readingEnd, events: Int16(POLLIN), revents: 0)
        while true {
            let left = (end - ContinuousClock.now) / .milliseconds(1)
            guard left > 0 else { return }
            // The pipe is readable after letGo(); a signal only interrupts.
            if poll(&polled, 1, Int32(left.rounded(.up))) >= 0 { return }
            guard errno == EINTR else { return }
        }
    }

    /// Sends out all replies that are held back, and holds back no more.
    public func letGo() {
        guard !isOpen.exchange(true, ordering: .acquiringAndReleasing) else { return }
        if writingEnd >= 0 { close(writingEnd) }
    }
}
