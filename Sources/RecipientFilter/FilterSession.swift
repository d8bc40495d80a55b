import Glibc
import MailAddress
import Milter
import RecipientIndex
import RejectionLog
import System

/// One SMTP session: keeps the client's and sender's names, judges each recipient, records the verdict and replies.
///
/// The policy and the snapshot in force are in use only while a recipient is judged, never while the session waits.
final class FilterSession: MilterSession {
    /// What changes in the course of the session. In memory of its own: Swift would check each access to a variable of the object for
    /// exclusiveness.
    private struct State {
        var heloName = SessionBytes()
        var sender = SessionBytes()
        var login = SessionBytes()
        /// Set at MAIL: a recipient before MAIL comes from a client that isn't trusted, and isn't a bounce's.
        var isTrusted = false
        var isBounce = false
        /// Whether the harvest limit applies to the client; set at MAIL.
        var isCounted = true
        /// Whether the client said SMTPUTF8 at MAIL, so that replies may contain UTF-8 (RFC 6531 section 3.7.4.1).
        var acceptsUTF8 = false
    }

    /// A verdict with the values of the policy that recording and replying need.
    private struct Answer {
        var verdict = Verdict.invalidPath
        /// The slot of the recipient's relay domain in the log.
        var slot = DomainSlot.foreign
        /// Whether the verdict is only logged: observe mode.
        var isObserved = false
        /// The settings of the tarpit that holds the reply back; nil to reply at once.
        var tarpit: Policy.Harvest?
        /// The codes of the reply; nil for an accepted recipient.
        var codes: ReplyCodes?
        /// The whole reply with its codes, in the session's memory; empty for an accepted recipient.
        var reply = UnsafeBufferPointer<UInt8>.none
        /// Where the reply's text begins, after the codes.
        var textStart = 0
    }

    private let context: FilterContext
    private let policies: HotSwap<Policy>.Reader
    private let indexes: HotSwap<IndexSnapshot>.Reader
    private let state: UnsafeMutablePointer<State>
    /// The address that the client is counted under: `::` for a client on the MTA's own machine, nil where the MTA doesn't know it.
    private let client: IPAddress?
    private let clientName: SessionBytes
    private let clientText: SessionBytes
    private let mta: SessionBytes
    /// Whether the connection is that of ``MilterProbe``, whose recipients are judged and not recorded.
    private let isProbe: Bool
    /// Where replies are written.
    private let replyBuffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: PreparedReply.maximumLength)

    init(_ connection: MilterConnection, _ milter: borrowing MilterContext, context: FilterContext) {
        self.context = context
        state = .allocate(capacity: 1)
        state.initialize(to: State())
        policies = context.policy.makeReader()
        indexes = context.index.makeReader()
        client = connection.address ?? (connection.isLocal ? .unspecified : nil)
        // The MTA gives a client without a name its address in brackets.
        clientName = SessionBytes(connection.hostname.hasPrefix("[") ? "" : connection.hostname, limit: 255)
        clientText = SessionBytes(
            connection.address?.description ?? (connection.isLocal ? "unix" : "unknown"), limit: 255)
        mta = SessionBytes(milter.macro("j"), limit: 255)
        isProbe = mta.bytes.elementsEqual(MilterProbe.name.utf8)
    }

    deinit {
        for text in [clientName, clientText, mta, state.pointee.heloName, state.pointee.sender, state.pointee.login] {
            text.deallocate()
        }
        state.deinitialize(count: 1)
        state.deallocate()
        replyBuffer.deallocate()
    }

    func helo(_ milter: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) {
        state.pointee.heloName.replace(with: name, limit: 255)
    }

    func mail(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) {
        state.pointee.sender.replace(with: arguments.path.withoutAngleBrackets, limit: 512)
        state.pointee.isBounce = state.pointee.sender.bytes.isEmpty
        state.pointee.login.replace(with: milter.macro("{auth_authen}"), limit: 255)
        state.pointee.acceptsUTF8 = (1..<max(1, arguments.count)).contains { arguments[$0]?.isSMTPUTF8 == true }
        let isAuthenticated = !state.pointee.login.bytes.isEmpty
        let client = client
        state.pointee.isTrusted =
            policies.withSome { isAuthenticated && $0.trustAuthenticated || $0.trusts(client) } ?? false
        state.pointee.isCounted =
            !state.pointee.isTrusted && policies.withSome { !$0.exemptsFromHarvest(client) } ?? true
        if state.pointee.isTrusted, !state.pointee.isBounce { recordUnlistedSender() }
    }

    /// Records a trusted client's sender that the index doesn't list: its mail shows that the mailbox exists.
    private func recordUnlistedSender() {
        guard let sender = try? RecipientAddress(path: state.pointee.sender.bytes), sender.hasDomain else { return }
        let now = Clocks.wall
        let mailbox = policies.withSome { policy in
            indexes.withSome { policy.unlistedMailbox(of: sender, index: $0, now: now / 1000) } ?? nil
        }
        if let mailbox = mailbox ?? nil { context.recordUnlistedSender(mailbox, now: now) }
    }

    func recipient(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        if let mailer = milter.macro("{rcpt_mailer}"), mailer.equals("error"),
            milter.macro("{rcpt_host}")?.isEnhancedStatusCode == true
        {
            recordRejectionByMTA(milter, arguments.path)
            return .continue
        }
        let began = LatencyHistogram.now()
        let now = Clocks.wall
        let path = arguments.path
        var answer = Answer()
        do throws(AddressError) {
            let recipient = try parse(path, milter)
            return recipient.withDomain { domain in
                guard judge(recipient, in: domain, path: path, now: now, &answer) else { return .tempfail }
                record(answer, path: path, domain: domain, milter, now: now)
                context.recordLatency(since: began)
                return reply(answer, milter)
            }
        } catch {
            let isAnswered: Void? = policies.withSome { policy in
                complete(&answer, .invalidPath, policy: policy, path: path, domain: nil)
            }
            guard isAnswered != nil else { return .tempfail }
            record(answer, path: path, domain: .none, milter, now: now)
            context.recordLatency(since: began)
            return reply(answer, milter)
        }
    }

    /// The recipient that the path names. Where the path has no domain, the MTA's own form of the recipient counts.
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

    /// Judges the recipient by the policy and the snapshot in force. Both are in use until this returns: nothing here may wait.
    ///
    /// - Returns: false if there is no policy to judge by.
    @inline(never)
    private func judge(
        _ recipient: RecipientAddress, in domain: UnsafeBufferPointer<UInt8>,
        path: UnsafeBufferPointer<UInt8>, now: Int64, _ answer: inout Answer
    ) -> Bool {
        let judged: Void? = policies.withSome { policy in
            let verdict =
                indexes.withSome { judge(recipient, policy: policy, index: $0, now: now) }
                ?? judge(recipient, policy: policy, index: nil, now: now)
            complete(&answer, verdict, policy: policy, path: path, domain: domain)
        }
        return judged != nil
    }

    /// The verdict on the recipient, which counts towards the client's harvest limit.
    private func judge(
        _ recipient: RecipientAddress, policy: Policy, index: IndexSnapshot?, now: Int64
    ) -> Verdict {
        let isTrusted = state.pointee.isTrusted
        let counted = state.pointee.isCounted && policy.harvest.limit > 0 ? client : nil
        let limitState = counted.map { context.harvestState(of: $0, policy.harvest) } ?? .notSeen
        let trust = ClientTrust(
            isTrusted: isTrusted, isOverHarvestLimit: limitState == .overLimit, isBounce: state.pointee.isBounce)
        let verdict = context.judge(recipient, trust, policy: policy, index: index, now: now / 1000)
        if let counted {
            if verdict.revealsUnknown {
                context.countUnknown(recipient, of: counted, policy.harvest)
            } else if verdict.outcome == .accepted, limitState != .notSeen {
                context.countKnown(of: counted, policy.harvest)
            }
        }
        return verdict
    }

    /// Fills in the answer with the verdict and the policy's values for it.
    ///
    /// - Parameter domain: the recipient's domain; nil if the path isn't valid.
    private func complete(
        _ answer: inout Answer, _ verdict: Verdict, policy: Policy, path: UnsafeBufferPointer<UInt8>,
        domain: UnsafeBufferPointer<UInt8>?
    ) {
        answer.verdict = verdict
        if let relayDomain = verdict.countedDomain { answer.slot = policy.tables[relayDomain].slot }
        guard let kind = verdict.reply else { return }
        let template = policy.tables.reply(kind, domain: verdict.domain)
        answer.isObserved = policy.observes(verdict)
        if verdict.isHeldBack, policy.harvest.tarpit > 0, state.pointee.isCounted { answer.tarpit = policy.harvest }
        answer.codes = template.pointee.codes
        answer.textStart = template.pointee.prefix.count
        let path = path.withoutAngleBrackets
        // A valid path may contain invalid UTF-8 in a comment.
        let isUTF8 =
            state.pointee.acceptsUTF8 && domain != nil
            && (path.allSatisfy { $0 < 0x80 } || String(validating: path, as: UTF8.self) != nil)
        let length = template.pointee.render(
            into: replyBuffer, recipient: path, domain: domain ?? .none, client: clientText.bytes, utf8: isUTF8)
        answer.reply = UnsafeBufferPointer(rebasing: replyBuffer[..<length])
    }

    /// Answers the MTA; a reply that the tarpit holds back goes out later.
    private func reply(_ answer: borrowing Answer, _ milter: borrowing MilterContext) -> MilterResponse {
        guard let codes = answer.codes, !answer.isObserved else { return .continue }
        if let settings = answer.tarpit { context.tarpit.hold(settings) { milter.wait($0) } }
        return milter.refuse(codes, text: UnsafeBufferPointer(rebasing: answer.reply[answer.textStart...]))
    }

    // MARK: Recording

    private func record(
        _ answer: borrowing Answer, path: UnsafeBufferPointer<UInt8>, domain: UnsafeBufferPointer<UInt8>,
        _ milter: borrowing MilterContext, now: Int64
    ) {
        guard !isProbe else { return }
        context.record(
            event(
                time: now, outcome: answer.verdict.outcome, observed: answer.isObserved,
                reason: context.slot(of: answer.verdict.reason), slot: answer.slot, domain: domain, path: path,
                reply: answer.reply, milter))
    }

    /// Records a recipient that the MTA itself rejected. It passes the recipient on, with its reply in the macros.
    private func recordRejectionByMTA(_ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>) {
        let enhancedCode = milter.macro("{rcpt_host}") ?? .none
        let text = milter.macro("{rcpt_addr}") ?? .none
        var length = 0
        for part in [enhancedCode, text] {
            for byte in part where length < replyBuffer.count - 1 {
                replyBuffer[length] = byte
                length += 1
            }
            replyBuffer[length] = UInt8(ascii: " ")
            length += length < replyBuffer.count - 1 ? 1 : 0
        }
        let reply = UnsafeBufferPointer(rebasing: replyBuffer[..<max(0, length - 1)])
        func record(_ slot: DomainSlot, _ domain: UnsafeBufferPointer<UInt8>) {
            context.record(
                event(
                    time: Clocks.wall, outcome: reply.first == UInt8(ascii: "4") ? .deferred : .rejected,
                    observed: false, reason: context.mtaSlot, slot: slot, domain: domain, path: path, reply: reply,
                    milter))
        }
        guard let address = try? RecipientAddress(path: path) else { return record(.foreign, .none) }
        address.withDomain { domain in
            let slot = policies.withSome { policy in policy.relayDomain(domain).map { policy.domains[$0].slot } }
            record((slot ?? nil) ?? .foreign, domain)
        }
    }

    /// The event of a recipient of this session.
    @inline(__always)
    private func event(
        time: Int64, outcome: Outcome, observed: Bool, reason: ReasonSlot, slot: DomainSlot,
        domain: UnsafeBufferPointer<UInt8>, path: UnsafeBufferPointer<UInt8>, reply: UnsafeBufferPointer<UInt8>,
        _ milter: borrowing MilterContext
    ) -> RecipientEvent {
        RecipientEvent(
            time: time, outcome: outcome, observed: observed, reason: reason, domain: slot, domainName: domain,
            recipient: path.withoutAngleBrackets, sender: state.pointee.sender.bytes, client: client ?? .unspecified,
            clientName: clientName.bytes, helo: state.pointee.heloName.bytes, queueID: milter.macro("i") ?? .none,
            authenticated: !state.pointee.login.bytes.isEmpty, mta: mta.bytes, reply: reply)
    }
}

/// A copy of bytes that a session keeps from one call to the next. A handle: the owner calls ``deallocate()``.
struct SessionBytes {
    private(set) var bytes = UnsafeBufferPointer<UInt8>.none

    /// No bytes.
    init() {}

    /// A copy of the first bytes of a text, `limit` at most.
    init(_ text: String, limit: Int) {
        var text = text
        text.withUTF8 { replace(with: $0, limit: limit) }
    }

    /// A copy of the first bytes, `limit` at most.
    init(_ bytes: UnsafeBufferPointer<UInt8>?, limit: Int) { replace(with: bytes, limit: limit) }

    func deallocate() { bytes.deallocate() }

    /// Frees the copy and copies the first of other bytes, `limit` at most.
    mutating func replace(with other: UnsafeBufferPointer<UInt8>?, limit: Int) {
        bytes.deallocate()
        bytes = .none
        guard let other, !other.isEmpty, limit > 0 else { return }
        let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: min(other.count, limit))
        _ = copy.update(fromContentsOf: other.prefix(limit))
        bytes = UnsafeBufferPointer(copy)
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whether the bytes are those of the text.
    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount, let baseAddress else { return false }
        return memcmp(baseAddress, text.utf8Start, count) == 0
    }

    /// Whether the bytes are an enhanced status code of class 4 or 5 and nothing else, such as `5.1.1` (RFC 3463 section 2). A
    /// transport `error:5.1.1 moved` also shows as the mailer `error`, but with a text after the code.
    var isEnhancedStatusCode: Bool {
        guard count <= 9, first == UInt8(ascii: "4") || first == UInt8(ascii: "5") else { return false }
        let parts = split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 3
            && parts.allSatisfy { (1...3).contains($0.count) && $0.allSatisfy { (0x30...0x39).contains($0) } }
    }

    /// Whether the bytes are the parameter `SMTPUTF8` of MAIL (RFC 6531 section 3.4), in letters of either case.
    var isSMTPUTF8: Bool {
        count == 8
            && zip(self, "SMTPUTF8".utf8).allSatisfy { byte, letter in
                byte == letter || byte ^ 0x20 == letter && letter >= UInt8(ascii: "A")
            }
    }

    /// The bytes between a leading `<` and the last `>`; all bytes where they aren't in brackets.
    var withoutAngleBrackets: Self {
        guard first == UInt8(ascii: "<"), let end = lastIndex(of: UInt8(ascii: ">")) else { return self }
        return Self(rebasing: self[1..<end])
    }
}
