import Foundation

/// A mail gateway: `postern serve` and a private Postfix that asks it.
///
/// 127.0.0.1 is a trusted client to both, the rest of 127.0.0.0/8 are strangers. Postfix leaves recipients and, by default,
/// relaying to Postern.
final class Gateway {
    /// A client that may relay.
    static let trusted = "127.0.0.1"
    /// A client that may not.
    static let stranger = "127.0.0.2"
    /// Settings with which Postfix refuses no recipient by itself. It insists on a restriction that could; the word before
    /// it takes its effect away.
    static let leavesAllToFilter = [
        "smtpd_relay_restrictions": "permit, reject_unauth_destination", "smtpd_recipient_restrictions": "permit",
        "smtpd_reject_unlisted_recipient": "no",
    ]

    let workspace: Workspace
    let configuration: PosternConfiguration
    private(set) var postern: PosternProcess
    let postfix: PostfixInstance

    /// Publishes the index and starts both.
    ///
    /// - Parameters:
    ///   - postfixSettings: of main.cf, in place of ``leavesAllToFilter``.
    ///   - adjust: changes the configuration before it is written.
    init(
        unixSocket: Bool = false, postfixSettings: [String: String] = leavesAllToFilter,
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
        postern = try PosternProcess(serving: file, socket: configuration.socket, in: workspace)
        var settings = postfixSettings
        settings["smtpd_milters"] = configuration.socket.postfixName
        settings["relay_domains"] = PosternConfiguration.relayDomains.joined(separator: ", ")
        settings.merge(postfixSettings) { $1 }
        postfix = try PostfixInstance(in: workspace, settings)
    }

    /// Starts `postern serve` again, after a test has ended it.
    func restartPostern() throws {
        postern = try PosternProcess(
            serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)
    }

    /// A client that has said HELO and MAIL.
    func client(from source: String = stranger) throws -> SMTPClient {
        let client = try SMTPClient(port: postfix.port, from: source)
        try client.begin()
        return client
    }

    /// The report as `--format json` gives it.
    func report(_ arguments: [String] = []) throws -> Report {
        let result = try configuration.run(["report", "--format", "json"] + arguments)
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postern report: \(result.ending)\n\(result.error)")
        }
        return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    }
}

/// The JSON report, as far as it is promised.
struct Report: Decodable {
    struct Totals: Decodable, Equatable {
        var refused = 0, accepted = 0, tempfailed = 0, observed = 0
    }

    let totals: Totals
    /// By reason; read leniently, as an object of counts or a list of objects with `reason` and `count`.
    let byReason: [String: Int]

    private enum CodingKeys: String, CodingKey {
        case totals
        case byReason = "by_reason"
    }

    private struct Row: Decodable {
        let reason: String
        let count: Int
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        totals = try container.decode(Totals.self, forKey: .totals)
        if let rows = try? container.decode([Row].self, forKey: .byReason) {
            byReason = Dictionary(rows.map { ($0.reason, $0.count) }) { $0 + $1 }
        } else {
            byReason = try container.decode([String: Int].self, forKey: .byReason)
        }
    }
}
