import Glibc
import MailAddress
public import Milter
public import RecipientIndex
import System

/// What all sessions of a filter share.
public final class FilterContext: Sendable {
    /// The policy in force.
    public let policy: HotSwap<Policy>
    /// The snapshot in force.
    public let index: HotSwap<IndexSnapshot>
    /// The unknown recipients by client network.
    public let harvest: HarvestTable
    /// Who sends through this gateway without being in the index.
    public let senders: UnlistedSenders
    /// Where refusals wait that are held back.
    public let tarpit = Tarpit()
    /// How long judging and recording took, without the time in the tarpit.
    public let latency = LatencyHistogram()
    let sink: any VerdictSink

    /// The macros that a session reads, by stage; an MTA that can be told sends no others.
    public static let macros: [MilterConfiguration.Stage: [String]] = [
        .connect: ["j"], .helo: [],
        .mail: ["i", "{auth_authen}"],
        .recipient: ["i", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"],
    ]

    /// A filter that reports every verdict to `sink`.
    public init(
        policy: HotSwap<Policy>, index: HotSwap<IndexSnapshot>, harvest: HarvestTable,
        senders: UnlistedSenders = UnlistedSenders(), sink: any VerdictSink
    ) {
        self.policy = policy
        self.senders = senders
        self.index = index
        self.harvest = harvest
        self.sink = sink
    }

    /// The session of a new connection, for ``MilterServer``.
    public func session(
        _ connection: MilterConnection, _ milter: borrowing MilterContext
    ) -> any MilterSession {
        FilterSession(connection, milter, context: self)
    }

    // What follows are functions of their own because a session that went by way of the context would count references to what
    // all sessions share.

    @inline(never)
    fileprivate func record(_ event: borrowing VerdictEvent) { sink.record(event) }

    @inline(never)
    fileprivate func judge(
        _ recipient: RecipientAddress, _ client: ClientStanding, _ policy: Policy, _ index: IndexSnapshot?, _ now: Int64
    ) -> Verdict {
        policy.verdict(for: recipient, client: client, index: index, senders: senders, now: now)
    }

    @inline(never)
    fileprivate func recordUnlistedSender(_ mailbox: RecipientAddress, _ now: Int64) {
        mailbox.withKey { key in
            senders.insert(key, day: now / 86_400_000)
            sink.recordUnlistedSender(key, time: now)
        }
    }

    @inline(never)
    fileprivate func recordLatency(since began: UInt64) { latency.record(since: began) }

    @inline(never)
    fileprivate func standing(_ client: IPAddress, _ limit: Policy.Harvest) -> HarvestTable.Standing {
        harvest.standing(of: client, limit: limit, now: Clocks.monotonicCoarse)
    }

    @inline(never)
    fileprivate func count(_ client: IPAddress, _ recipient: RecipientAddress, _ limit: Policy.Harvest) {
        recipient.withKey { harvest.count(client, $0, limit: limit, now: Clocks.monotonicCoarse) }
    }

    @inline(never)
    fileprivate func countKnown(_ client: IPAddress, _ limit: Policy.Harvest) {
        harvest.countKnown(client, limit: limit, now: Clocks.monotonicCoarse)
    }

    /// Takes back what the harvest limit has counted for recipients that exist by the policy and the index in force.
    public func forgiveKnownRecipients() {
        guard let policy = policy.current, policy.harvest.limit > 0, let index = index.current else { return }
        let now = Clocks.wall / 1000
        harvest.forgive { key in
            guard let recipient = try? RecipientAddress(path: key), recipient.hasDomain else { return true }
            let verdict = policy.verdict(for: recipient, client: ClientStanding(), index: index, now: now)
            return verdict.action != .accept && verdict.reason != .leaving
        }
    }
}

/// One SMTP session as the filter sees it: it keeps what the MTA tells and judges each recipient.
final class FilterSession: MilterSession {
    /// What changes in the course of the session. In memory of its own: a variable of the object would be checked for exclusive access
    /// each time.
    private struct State {
        var heloName = HeldText()
        var sender = HeldText()
        var login = HeldText()
        /// Set at MAIL; a recipient before any MAIL comes from a stranger, and is of no bounce.
        var isTrusted = false
        var isBounce = false
        /// Whether the harvest limit holds for the client; set at MAIL, too.
        var isCounted = true
        /// Whether the client has said SMTPUTF8 at MAIL, so that replies may be in UTF-8.
        var takesUTF8 = false
    }

    /// What is left of a judgement when policy and snapshot have been let go of.
    private struct Decision {
        var verdict = Verdict.invalidPath
        /// The relay domain's.
        var tag: UInt32?
        /// Whether the verdict is logged only.
        var isObserved = false
        /// For how long the refusal is held back; nil where it isn't.
        var hold: Policy.Harvest?
        /// Nil for an accepted recipient.
        var codes: ReplyCodes?
        /// The whole reply in the session's memory, codes and all, and where its text begins there.
        var reply = UnsafeBufferPointer<UInt8>.none
        var textStart = 0
    }

    private let context: FilterContext
    private let policies: HotSwap<Policy>.Reader
    private let indexes: HotSwap<IndexSnapshot>.Reader
    private let state: UnsafeMutablePointer<State>
    private let client: IPAddress?
    private let clientName: HeldText
    private let clientText: HeldText
    private let mta: HeldText
    /// The reply in the making, codes and all.
    private let reply = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 16 + MilterContext.maximumReplyLength)

    init(_ connection: MilterConnection, _ milter: borrowing MilterContext, context: FilterContext) {
        self.context = context
        state = .allocate(capacity: 1)
        state.initialize(to: State())
        policies = context.policy.makeReader()
        indexes = context.index.makeReader()
        client = connection.address ?? (connection.isLocal ? .unspecified : nil)
        // A client without a name comes as its address in brackets.
        clientName = HeldText(connection.hostname.hasPrefix("[") ? "" : connection.hostname, limit: 255)
        clientText = HeldText(connection.address?.description ?? (connection.isLocal ? "unix" : "unknown"), limit: 255)
        mta = HeldText(milter.macro("j"), limit: 255)
    }

    deinit {
        for text in [clientName, clientText, mta, state.pointee.heloName, state.pointee.sender, state.pointee.login] {
            text.deallocate()
        }
        state.deinitialize(count: 1)
        state.deallocate()
        reply.deallocate()
    }

    func helo(_ milter: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) {
        state.pointee.heloName.replace(with: name, limit: 255)
    }

    func mail(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) {
        state.pointee.sender.replace(with: arguments.path.withoutAngleBrackets, limit: 512)
        state.pointee.isBounce = state.pointee.sender.bytes.isEmpty
        state.pointee.login.replace(with: milter.macro("{auth_authen}"), limit: 255)
        state.pointee.takesUTF8 = (1..<max(1, arguments.count)).contains { arguments[$0]?.isSMTPUTF8 == true }
        let isAuthenticated = !state.pointee.login.bytes.isEmpty
        let client = client
        state.pointee.isTrusted =
            policies.withSome { isAuthenticated && $0.trustAuthenticated || $0.trusts(client) } ?? false
        state.pointee.isCounted =
            !state.pointee.isTrusted && policies.withSome { !$0.exemptsFromHarvest(client) } ?? true
        if state.pointee.isTrusted, !state.pointee.isBounce { witness() }
    }

    /// Takes note of a sender whose mail proves that its mailbox exists, though the index doesn't list it. A stranger's word is no proof.
    private func witness() {
        guard let sender = try? RecipientAddress(path: state.pointee.sender.bytes), sender.hasDomain else { return }
        let now = Clocks.wall
        let mailbox = policies.withSome { policy in
            indexes.withSome { policy.unlistedMailbox(of: sender, index: $0, now: now / 1000) } ?? nil
        }
        if let mailbox = mailbox ?? nil { context.recordUnlistedSender(mailbox, now) }
    }

    func recipient(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        if let mailer = milter.macro("{rcpt_mailer}"), mailer.equals("error"),
            milter.macro("{rcpt_host}")?.isEnhancedStatusCode == true
        {
            recordRefusalOfMTA(milter, arguments.path)
            return .continue
        }
        let began = LatencyHistogram.now()
        let now = Clocks.wall
        let path = arguments.path
        var decision = Decision()
        do throws(AddressError) {
            let recipient = try parse(path, milter)
            return recipient.withDomain { domain in
                guard decide(recipient, domain, path, now, &decision) else { return .tempfail }
                return finish(decision, now, began, domain, milter, path)
            }
        } catch {
            guard policies.withSome({ settle(.invalidPath, nil, $0, path, &decision) }) != nil else { return .tempfail }
            return finish(decision, now, began, .none, milter, path)
        }
    }

    /// Judges the recipient by the policy and the snapshot in force, which are in use until this returns: nothing here may wait.
    ///
    /// - Returns: false without a policy, by which there would be nothing to judge; the context is made with one.
    @inline(never)
    private func decide(
        _ recipient: RecipientAddress, _ domain: UnsafeBufferPointer<UInt8>,
        _ path: UnsafeBufferPointer<UInt8>, _ now: Int64, _ decision: inout Decision
    ) -> Bool {
        let judged: Void? = policies.withSome { policy in
            let verdict =
                indexes.withSome { judge(recipient, policy, $0, now) } ?? judge(recipient, policy, nil, now)
            settle(verdict, domain, policy, path, &decision)
        }
        return judged != nil
    }

    private func judge(
        _ recipient: RecipientAddress, _ policy: Policy, _ index: IndexSnapshot?, _ now: Int64
    ) -> Verdict {
        let isTrusted = state.pointee.isTrusted
        let counted = state.pointee.isCounted && policy.harvest.limit > 0 ? client : nil
        let standing = counted.map { context.standing($0, policy.harvest) } ?? .unseen
        let verdict = context.judge(
            recipient,
            ClientStanding(
                isTrusted: isTrusted, isOverHarvestLimit: standing == .over, isBounce: state.pointee.isBounce), policy,
            index, now / 1000)
        if let counted {
            if verdict.revealsUnknown {
                context.count(counted, recipient, policy.harvest)
            } else if verdict.action == .accept, standing != .unseen {
                context.countKnown(counted, policy.harvest)
            }
        }
        return verdict
    }

    /// The recipient of the path; where that has no domain, of the MTA's own idea of it.
    @inline(__always)
    private func parse(
        _ path: UnsafeBufferPointer<UInt8>, _ milter: borrowing MilterContext
    ) throws(AddressError) -> RecipientAddress {
        let recipient = try RecipientAddress(path: path)
        guard !recipient.hasDomain, !recipient.withLocalPart({ $0.elementsEqual("postmaster".utf8) }),
            let completed = milter.macro("{rcpt_addr}"),
            let other = try? RecipientAddress(path: completed), other.hasDomain
        else { return recipient }
        return other
    }

    /// Takes down what the policy says of a verdict, with the reply filled in.
    ///
    /// - Parameter domain: nil where the path is none.
    private func settle(
        _ verdict: Verdict, _ domain: UnsafeBufferPointer<UInt8>?, _ policy: Policy,
        _ path: UnsafeBufferPointer<UInt8>, _ decision: inout Decision
    ) {
        decision.verdict = verdict
        decision.tag = verdict.countedDomain.map { policy.tables[$0].tag }
        guard let kind = verdict.reply else { return }
        let template = policy.tables.reply(kind, domain: verdict.domain)
        decision.isObserved = policy.observes(verdict)
        if verdict.isHeldBack, policy.harvest.tarpit > 0, state.pointee.isCounted { decision.hold = policy.harvest }
        decision.codes = template.pointee.codes
        decision.reply = fillIn(template, domain, path.withoutAngleBrackets)
        decision.textStart = template.pointee.prefix.count
    }

    /// Records the decision and answers it; no policy and no snapshot is in use any more.
    private func finish(
        _ decision: Decision, _ now: Int64, _ began: UInt64, _ domain: UnsafeBufferPointer<UInt8>,
        _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>
    ) -> MilterResponse {
        record(
            .verdict(decision.verdict, observed: decision.isObserved), now, decision.tag, domain, decision.reply,
            milter, path)
        context.recordLatency(since: began)
        return answer(decision, milter)
    }

    /// Tells the MTA, after a while where the refusal is held back.
    private func answer(_ decision: borrowing Decision, _ milter: borrowing MilterContext) -> MilterResponse {
        guard let codes = decision.codes, !decision.isObserved else { return .continue }
        if let hold = decision.hold { context.tarpit.hold(hold) { milter.wait($0) } }
        return milter.refuse(codes, text: UnsafeBufferPointer(rebasing: decision.reply[decision.textStart...]))
    }

    /// The whole reply, codes and all; valid until the next one.
    private func fillIn(
        _ template: UnsafePointer<PreparedReply>, _ domain: UnsafeBufferPointer<UInt8>?,
        _ path: UnsafeBufferPointer<UInt8>
    ) -> UnsafeBufferPointer<UInt8> {
        let prefix = template.pointee.prefix
        _ = reply.update(fromContentsOf: prefix)
        // A comment in the path may hold what is no text though the address is.
        let isUTF8 =
            state.pointee.takesUTF8 && domain != nil
            && (path.allSatisfy { $0 < 0x80 } || String(validating: path, as: UTF8.self) != nil)
        let length = template.pointee.render(
            into: UnsafeMutableBufferPointer(rebasing: reply[prefix.count...]), recipient: path,
            domain: domain ?? .none, client: clientText.bytes, utf8: isUTF8)
        return UnsafeBufferPointer(rebasing: reply[..<(prefix.count + length)])
    }

    /// Takes note of a recipient that the MTA itself has refused and only tells of.
    private func recordRefusalOfMTA(_ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>) {
        let enhancedCode = milter.macro("{rcpt_host}") ?? .none
        let text = milter.macro("{rcpt_addr}") ?? .none
        var length = 0
        for part in [enhancedCode, text] {
            for byte in part where length < reply.count - 1 {
                reply[length] = byte
                length += 1
            }
            reply[length] = UInt8(ascii: " ")
            length += length < reply.count - 1 ? 1 : 0
        }
        let told = UnsafeBufferPointer(rebasing: reply[..<max(0, length - 1)])
        let now = Clocks.wall
        guard let address = try? RecipientAddress(path: path) else {
            record(.refusedByMTA, now, nil, .none, told, milter, path)
            return
        }
        address.withDomain { domain in
            let relay = policies.withSome { policy in policy.relayDomain(domain).map { policy.domains[$0].tag } }
            record(.refusedByMTA, now, relay ?? nil, domain, told, milter, path)
        }
    }

    private func record(
        _ subject: VerdictEvent.Subject, _ now: Int64, _ tag: UInt32?, _ domain: UnsafeBufferPointer<UInt8>,
        _ reply: UnsafeBufferPointer<UInt8>, _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>
    ) {
        context.record(
            VerdictEvent(
                subject: subject, time: now, domainTag: tag, domain: domain, recipient: path.withoutAngleBrackets,
                sender: state.pointee.sender.bytes, client: client, clientName: clientName.bytes,
                helo: state.pointee.heloName.bytes, mta: mta.bytes, queueID: milter.macro("i") ?? .none,
                authenticated: state.pointee.login.bytes, reply: reply))
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// No bytes.
    static var none: Self { Self(start: nil, count: 0) }

    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount, let baseAddress else { return false }
        return memcmp(baseAddress, text.utf8Start, count) == 0
    }

    /// Whether the bytes are a status code of a refusal and nothing else, such as `5.1.1` (RFC 3463 section 2). A transport
    /// `error:5.1.1 moved` would show as the mailer `error` too, with its text behind the code.
    var isEnhancedStatusCode: Bool {
        guard count <= 9, first == UInt8(ascii: "4") || first == UInt8(ascii: "5") else { return false }
        let parts = split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 3
            && parts.allSatisfy { (1...3).contains($0.count) && $0.allSatisfy { (0x30...0x39).contains($0) } }
    }

    /// Whether the bytes are the parameter `SMTPUTF8` of MAIL (RFC 6531 section 3.4).
    fileprivate var isSMTPUTF8: Bool {
        count == 8
            && zip(self, "SMTPUTF8".utf8).allSatisfy { byte, letter in
                byte == letter || byte ^ 0x20 == letter && letter >= UInt8(ascii: "A")
            }
    }

    /// What stands between `<` and the last `>`; all of it where there are no brackets.
    var withoutAngleBrackets: Self {
        guard first == UInt8(ascii: "<"), let end = lastIndex(of: UInt8(ascii: ">")) else { return self }
        return Self(rebasing: self[1..<end])
    }
}
