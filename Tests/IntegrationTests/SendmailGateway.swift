import Foundation

/// A mail gateway of Sendmail: `postern serve`, a private Sendmail that asks it, and an inner server.
///
/// 127.0.0.1 is a trusted client to Postern, and to Sendmail by nature; the rest of 127.0.0.0/8 are strangers.
final class SendmailGateway: MailGateway {
    /// With these Sendmail refuses no recipient by itself, and leaves relaying to Postern.
    static let leavesAllToFilter = ["FEATURE(`promiscuous_relay')dnl"]

    let workspace: Workspace
    let configuration: PosternConfiguration
    let sink: SMTPSink
    let sendmail: SendmailInstance
    private(set) var postern: PosternProcess
    private let served: String

    var port: UInt16 { sendmail.port }

    /// Publishes the index and starts all.
    ///
    /// - Parameters:
    ///   - lines: m4 of Sendmail's configuration, in place of ``leavesAllToFilter``.
    ///   - flag: of the filter, `F=T` being what `contrib/sendmail/postern.mc` has.
    ///   - adjust: changes the configuration before it is written.
    init(
        unixSocket: Bool = true, lines: [String] = leavesAllToFilter, flag: String = "F=T",
        _ adjust: (inout PosternConfiguration) throws -> Void = { _ in },
        prepare: (Workspace) throws -> [String] = { _ in [] }
    ) throws {
        workspace = try Workspace(in: .run)
        var configuration = try PosternConfiguration(in: workspace, unixSocket: unixSocket)
        try adjust(&configuration)
        self.configuration = configuration
        served = try configuration.write()
        let synced = try configuration.run(["sync", "--once"])
        guard synced.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postern sync: \(synced.ending)\n\(synced.output)\(synced.error)")
        }
        postern = try PosternProcess(serving: served, socket: configuration.socket, in: workspace)
        sink = try SMTPSink()
        var settings = SendmailInstance.Settings()
        settings.lines = try lines + prepare(workspace)
        settings.filterFlag = flag
        settings.innerPort = sink.port
        settings.access = PosternConfiguration.relayDomains.map { "To:\($0) RELAY" }
        for domain in PosternConfiguration.relayDomains { settings.routes[domain] = sink.host }
        sendmail = try SendmailInstance(in: workspace, socket: configuration.socket, settings)
    }

    /// Starts `postern serve` again, after a test has ended it.
    func restartPostern() throws {
        postern = try PosternProcess(serving: served, socket: configuration.socket, in: workspace)
    }
}
