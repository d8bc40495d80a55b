import Foundation

/// An MTA that asks a Postern.
protocol MailGateway {
    var configuration: PosternConfiguration { get }
    /// Where the MTA listens on 127.0.0.1.
    var port: UInt16 { get }
}

extension MailGateway {
    /// A client that has said HELO and MAIL.
    func client(from source: String = Gateway.stranger) throws -> SMTPClient {
        let client = try SMTPClient(port: port, from: source)
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

    /// The refusals one by one, as `postern log` prints them.
    func log() throws -> String {
        let result = try configuration.run(["log"])
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postern log: \(result.ending)\n\(result.error)")
        }
        return result.output
    }
}
