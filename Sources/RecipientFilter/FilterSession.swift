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
    private let context: FilterContext
    private var policies: HotSwap<Policy>.Reader
    private var indexes: HotSwap<IndexSnapshot>.Reader
    private let client: ClientAddress?
    private let clientName: [UInt8]
    private let clientText: [UInt8]
    private let mta: [UInt8]
    private var heloName: [UInt8] = []
    private var sender: [UInt8] = []
    private var login: [UInt8] = []
    /// Set at MAIL; a recipient before any MAIL comes from a stranger, and is of no bounce.
    private var isTrusted = false
    private var isBounce = false
    /// Whether the client has said SMTPUTF8 at MAIL, so that replies may be in UTF-8.
    private var takesUTF8 = false
    /// The reply in the making, codes and all.
    private let reply = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 16 + MilterContext.maximumReplyLength)

    init(_ connection: MilterConnection, _ milter: borrowing MilterContext, context: FilterContext) {
        self.context = context
        policies = context.policy.makeReader()
        indexes = context.index.makeReader()
        client = connection.address
        // A client without a name comes as its address in brackets.
        clientName = connection.hostname.hasPrefix("[") ? [] : Array(connection.hostname.utf8.prefix(255))
        clientText = Array((connection.address?.description ?? "unknown").utf8)
        mta = Array((milter.macro("j") ?? .none).prefix(255))
    }

    deinit { reply.deallocate() }

    func helo(_ milter: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) {
        heloName.replace(with: name.prefix(255))
    }

    func mail(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) {
        sender.replace(with: arguments.path.withoutAngleBrackets.prefix(512))
        isBounce = sender.isEmpty
        login.replace(with: (milter.macro("{auth_authen}") ?? .none).prefix(255))
        takesUTF8 = (1..<max(1, arguments.count)).contains { arguments[$0]?.isSMTPUTF8 == true }
        let isAuthenticated = !login.isEmpty
        let client = client
        isTrusted = policies.withCurrent { policy in
            guard let policy else { return false }
            return isAuthenticated && policy.trustAuthenticated || policy.trusts(client)
        }
    }

    func recipient(_ milter: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        if let mailer = milter.macro("{rcpt_mailer}"), mailer.elementsEqual("error".utf8),
            milter.macro("{rcpt_host}")?.isEnhancedStatusCode == true
        {
            recordRefusalOfMTA(milter, arguments.path)
            return .continue
        }
        return policies.withCurrent { policy in
            // Without a policy there is nothing to judge by; the context is made with one.
            guard let policy else { return .tempfail }
            return indexes.withCurrent { judge(milter, arguments.path, policy, $0) }
        }
    }

    private func judge(
        _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>, _ policy: Policy, _ index: IndexSnapshot?
    ) -> MilterResponse {
        let began = LatencyHistogram.now()
        let now = WallClock.milliseconds()
        let seconds = now / 1000
        let recipient = parse(path, milter)
        let isOver =
            if !isTrusted, let client {
                context.harvest.isOver(client, limit: policy.harvest, now: SteadyClock.milliseconds())
            } else { false }
        let verdict = policy.verdict(
            for: recipient,
            client: ClientStanding(isTrusted: isTrusted, isOverHarvestLimit: isOver, isBounce: isBounce), index: index,
            now: seconds)
        if verdict.revealsUnknown && !isTrusted, let client {
            context.harvest.count(client, limit: policy.harvest, now: SteadyClock.milliseconds())
        }
        return answer(verdict, recipient, policy, now, began, milter, path)
    }

    /// The recipient of the path; where that has no domain, of the MTA's own idea of it.
    private func parse(
        _ path: UnsafeBufferPointer<UInt8>, _ milter: borrowing MilterContext
    ) -> Result<RecipientAddress, AddressError> {
        let recipient = Result { () throws(AddressError) in try RecipientAddress(path: path) }
        guard case .success(let address) = recipient, !address.hasDomain,
            !address.withLocalPart({ $0.elementsEqual("postmaster".utf8) }),
            let completed = milter.macro("{rcpt_addr}"),
            let other = try? RecipientAddress(path: completed), other.hasDomain
        else { return recipient }
        return .success(other)
    }

    private func answer(
        _ verdict: Verdict, _ recipient: Result<RecipientAddress, AddressError>, _ policy: Policy, _ now: Int64,
        _ began: UInt64, _ milter: borrowing MilterContext, _ path: UnsafeBufferPointer<UInt8>
    ) -> MilterResponse {
        let observed = verdict.action != .accept && policy.observes(verdict)
        let start = verdict.reply.map {
            fillIn(policy.template($0, domain: verdict.domain), recipient, path.withoutAngleBrackets)
        }
        let reply = UnsafeBufferPointer(rebasing: reply[..<(start?.end ?? 0)])
        let subject = VerdictEvent.Subject.verdict(verdict, observed: observed)
        let tag = verdict.domain.map { policy.domains[$0].tag }
        if case .success(let address) = recipient {
            address.withDomain { record(subject, now, tag, $0, reply, milter, path) }
        } else {
            record(subject, now, tag, .none, reply, milter, path)
        }
        context.latency.record(since: began)
        guard let kind = verdict.reply, let start, !observed else { return .continue }
        if verdict.isHeldBack && !isTrusted { context.tarpit.hold(policy.harvest) }
        let template = policy.template(kind, domain: verdict.domain)
        return milter.refuse(
            code: template.code, enhancedCode: template.enhancedCode,
            text: UnsafeBufferPointer(rebasing: reply[start.text...]))
    }

    /// Writes the whole reply and tells where its text begins and where it ends.
    private func fillIn(
        _ template: ReplyTemplate, _ recipient: Result<RecipientAddress, AddressError>,
        _ path: UnsafeBufferPointer<UInt8>
    ) -> (text: Int, end: Int) {
        var start = 0
        for part in [template.code, template.enhancedCode] {
            for byte in part.utf8 {
                reply[start] = byte
                start += 1
            }
            reply[start] = UInt8(ascii: " ")
            start += 1
        }
        let rest = UnsafeMutableBufferPointer(rebasing: reply[start...])
        let length = clientText.withUnsafeBufferPointer { client in
            guard case .success(let address) = recipient else {
                return template.render(into: rest, recipient: path, domain: .none, client: client)
            }
            // A comment in the path may hold what is no text though the address is.
            let isUTF8 =
                takesUTF8 && (path.allSatisfy { $0 < 0x80 } || String(validating: path, as: UTF8.self) != nil)
            return address.withDomain {
                template.render(into: rest, recipient: path, domain: $0, client: client, utf8: isUTF8)
            }
        }
        return (start, start + length)
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
        let policy = policies.current
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
        let queueID = milter.macro("i") ?? .none
        sender.withUnsafeBufferPointer { sender in
            clientName.withUnsafeBufferPointer { clientName in
                heloName.withUnsafeBufferPointer { helo in
                    login.withUnsafeBufferPointer { login in
                        mta.withUnsafeBufferPointer { mta in
                            context.sink.record(
                                VerdictEvent(
                                    subject: subject, time: now, domainTag: tag, domain: domain,
                                    recipient: path.withoutAngleBrackets, sender: sender, client: client,
                                    clientName: clientName, helo: helo, mta: mta, queueID: queueID,
                                    authenticated: login, reply: reply))
                        }
                    }
                }
            }
        }
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// No bytes.
    static var none: Self { Self(start: nil, count: 0) }

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

extension [UInt8] {
    /// Takes over other bytes and keeps the storage.
    fileprivate mutating func replace(with bytes: some Collection<UInt8>) {
        removeAll(keepingCapacity: true)
        append(contentsOf: bytes)
    }
}
