import Glibc
import MailAddress
public import Milter
public import RecipientIndex

/// What all sessions of a filter share.
public final class FilterContext: Sendable {
    /// The policy in force.
    public let policy: HotSwap<Policy>
    /// The snapshot in force.
    public let index: HotSwap<IndexSnapshot>
    /// The unknown recipients by client network.
    public let harvest: HarvestTable
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
        policy: HotSwap<Policy>, index: HotSwap<IndexSnapshot>, harvest: HarvestTable, sink: any VerdictSink
    ) {
        self.policy = policy
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
}

/// One SMTP session as the filter sees it: it keeps what the MTA tells and judges each recipient.
final class FilterSession: MilterSession {
    /// What changes in the course of the session, and the readers. In memory of its own: a variable of the object would be
    /// checked for exclusive access each time.
    private struct State {
        var policies: HotSwap<Policy>.Reader
        var indexes: HotSwap<IndexSnapshot>.Reader
        var heloName = HeldText()
        var sender = HeldText()
        var login = HeldText()
        /// Set at MAIL; a recipient before any MAIL comes from a stranger, and is of no bounce.
        var isTrusted = false
        var isBounce = false
        /// Whether the client has said SMTPUTF8 at MAIL, so that replies may be in UTF-8.
        var takesUTF8 = false
    }

    private let context: FilterContext
    private let state: UnsafeMutablePointer<State>
    private let client: ClientAddress?
    private let clientName: HeldText
    private let clientText: HeldText
    private let mta: HeldText
    /// The reply in the making, codes and all.
    private let reply = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 16 + MilterContext.maximumReplyLength)

    init(_ connection: MilterConnection, _ milter: borrowing MilterContext, context: FilterContext) {
        self.context = context
        state = .allocate(capacity: 1)
        state.initialize(to: State(policies: context.policy.makeReader(), indexes: context.index.makeReader()))
        client = connection.address
        // A client without a name comes as its address in brackets.
        clientName = HeldText(connection.hostname.hasPrefix("[") ? "" : connection.hostname, limit: 255)
        clientText = HeldText(connection.address?.description ?? "unknown", limit: 255)
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
        state.pointee.isTrusted = state.pointee.policies.withCurrent { policy in
            guard let policy else { return false }
            return isAuthenticated && policy.trustAuthenticated || policy.trusts(client)
        }
    }

    func recipient(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        if let mailer = milter.macro("{rcpt_mailer}"), mailer.equals("error"),
            milter.macro("{rcpt_host}")?.isEnhancedStatusCode == true
        {
            recordRefusalOfMTA(milter, arguments.path)
            return .continue
        }
        let path = arguments.path
        // Without a policy there is nothing to judge by; the context is made with one.
        return state.pointee.policies.withSome { policy in
            state.pointee.indexes.withSome { judge(milter, path, policy, $0) } ?? judge(milter, path, policy, nil)
        } ?? .tempfail
    }

    @inline(never)
    private func judge(
        _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>, _ policy: Policy, _ index: IndexSnapshot?
    ) -> MilterResponse {
        let began = LatencyHistogram.now()
        let now = WallClock.milliseconds()
        do throws(AddressError) {
            let recipient = try parse(path, milter)
            let isTrusted = state.pointee.isTrusted
            let isOver =
                if !isTrusted, policy.harvest.limit > 0, let client {
                    context.harvest.isOver(client, limit: policy.harvest, now: SteadyClock.milliseconds())
                } else { false }
            let verdict = policy.verdict(
                for: recipient,
                client: ClientStanding(
                    isTrusted: isTrusted, isOverHarvestLimit: isOver, isBounce: state.pointee.isBounce),
                index: index, now: now / 1000)
            if verdict.revealsUnknown && !isTrusted, policy.harvest.limit > 0, let client {
                context.harvest.count(client, limit: policy.harvest, now: SteadyClock.milliseconds())
            }
            return recipient.withDomain { answer(verdict, $0, policy, now, began, milter, path) }
        } catch {
            return answer(.invalidPath, nil, policy, now, began, milter, path)
        }
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

    /// - Parameter domain: nil where the path is none.
    private func answer(
        _ verdict: Verdict, _ domain: UnsafeBufferPointer<UInt8>?, _ policy: Policy, _ now: Int64, _ began: UInt64,
        _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>
    ) -> MilterResponse {
        let tag = verdict.domain.map { policy.tables[$0].tag }
        guard let kind = verdict.reply else {
            record(.verdict(verdict, observed: false), now, tag, domain ?? .none, .none, milter, path)
            context.latency.record(since: began)
            return .continue
        }
        let observed = policy.observes(verdict)
        let template = policy.tables.reply(kind, domain: verdict.domain)
        let whole = fillIn(template, domain, path.withoutAngleBrackets)
        record(.verdict(verdict, observed: observed), now, tag, domain ?? .none, whole, milter, path)
        context.latency.record(since: began)
        if observed { return .continue }
        if verdict.isHeldBack && !state.pointee.isTrusted { milter.wait { context.tarpit.hold(policy.harvest) } }
        return milter.refuse(
            template.pointee.codes, text: UnsafeBufferPointer(rebasing: whole[template.pointee.prefix.count...]))
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
        let now = WallClock.milliseconds()
        let policy = state.pointee.policies.current
        guard let address = try? RecipientAddress(path: path) else {
            record(.refusedByMTA, now, nil, .none, told, milter, path)
            return
        }
        address.withDomain { domain in
            let relay = policy.flatMap { policy in policy.relayDomain(domain).map { policy.domains[$0].tag } }
            record(.refusedByMTA, now, relay, domain, told, milter, path)
        }
    }

    private func record(
        _ subject: VerdictEvent.Subject, _ now: Int64, _ tag: UInt32?, _ domain: UnsafeBufferPointer<UInt8>,
        _ reply: UnsafeBufferPointer<UInt8>, _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>
    ) {
        context.sink.record(
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
