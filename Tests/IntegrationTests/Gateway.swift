import Foundation

/// A mail gateway: `postern serve` and a private Postfix that asks it.
///
/// 127.0.0.1 is a trusted client to both, the rest of 127.0.0.0/8 are strangers. Postfix leaves recipients and, by default,
/// relaying to Postern.
final class Gateway: MailGateway {
    /// A client that may relay.
    static let trusted = "127.0.0.1"
    /// A client that may not.
    static let stranger = "127.0.0.2"
    /// Settings with which Postfix refuses no recipient by itself: to it, all clients of these tests may relay.
    static let leavesAllToFilter = ["mynetworks": "127.0.0.0/8", "smtpd_reject_unlisted_recipient": "no"]

    let workspace: Workspace
    let configuration: PosternConfiguration
    private(set) var postern: PosternProcess
    let postfix: PostfixInstance
    var port: UInt16 { postfix.port }
    private let served: String

    /// Publishes the index and starts both.
    ///
    /// - Parameters:
    ///   - postfixSettings: of main.cf, in place of ``leavesAllToFilter``.
    ///   - listeners: of ``PostfixInstance``.
    ///   - servesOnly: whether the filter has no source of its own: an inner machine, with `configuration`, makes the index.
    ///   - adjust: changes the configuration before it is written.
    init(
        unixSocket: Bool = false, servesOnly: Bool = false, postfixSettings: [String: String] = leavesAllToFilter,
        listeners: [PostfixInstance.Listener] = [.init()],
        _ adjust: (inout PosternConfiguration) throws -> Void = { _ in }
    ) throws {
        workspace = try Workspace()
        var configuration = try PosternConfiguration(in: workspace, unixSocket: unixSocket)
        try adjust(&configuration)
        self.configuration = configuration
        let file = try configuration.write()
        let synced = try configuration.run(["sync", "--once"])
        guard synced.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postern sync: \(synced.ending)\n\(synced.output)\(synced.error)")
        }
        if servesOnly {
            configuration.rest = ""
            served = try configuration.write(to: "gateway.toml")
        } else {
            served = file
        }
        postern = try PosternProcess(serving: served, socket: configuration.socket, in: workspace)
        var settings = postfixSettings
        settings["smtpd_milters"] = configuration.socket.postfixName
        settings["relay_domains"] = PosternConfiguration.relayDomains.joined(separator: ", ")
        settings.merge(postfixSettings) { $1 }
        postfix = try PostfixInstance(in: workspace, settings, listeners: listeners)
    }

    /// Starts `postern serve` again, after a test has ended it.
    func restartPostern(standardError: String? = nil) throws {
        postern = try PosternProcess(
            serving: served, socket: configuration.socket, in: workspace, standardError: standardError)
    }
}

/// The JSON report, as far as it is promised.
struct Report: Decodable {
    struct Totals: Decodable, Equatable {
        var refused = 0, accepted = 0, tempfailed = 0, observed = 0
        /// What Postfix refused itself, in addition to `refused`.
        var mtaRefused = 0

        private enum CodingKeys: String, CodingKey {
            case refused, accepted, tempfailed, observed
            case mtaRefused = "mta_refused"
        }
    }

    let totals: Totals
    let byReason: [String: Int]

    private enum CodingKeys: String, CodingKey {
        case totals
        case byReason = "by_reason"
    }
}
