import Foundation
import GRDB

extension DirectoryGateway {
    // MARK: Postfix

    /// A private Postfix that leaves all recipients to the filter, which must run.
    func postfix() throws -> PostfixInstance {
        var settings = Gateway.leavesAllToFilter
        settings["smtpd_milters"] = configuration.socket.postfixName
        settings["relay_domains"] = PosternConfiguration.relayDomains.joined(separator: ", ")
        return try PostfixInstance(in: workspace, settings)
    }

    /// A client that has said HELO and MAIL.
    func client(of postfix: PostfixInstance, from source: String = Gateway.stranger) throws -> SMTPClient {
        let client = try SMTPClient(port: postfix.port, from: source)
        try client.begin()
        return client
    }

    // MARK: The state

    /// Changes the state so that all directories were last read in full two days ago.
    func ageReconciliation() throws {
        let database = try DatabaseQueue(path: workspace.file("sync.sqlite"))
        try database.write { database in
            for row in try Row.fetchAll(database, sql: "SELECT id, cursor FROM source WHERE cursor IS NOT NULL") {
                let (id, data): (Int64, Data) = (row["id"], row["cursor"])
                guard var cursor = try JSONSerialization.jsonObject(with: data) as? [String: Any],
                    let reconciled = cursor["reconciled"] as? Double
                else { throw ChildProcess.Failure(description: "no cursor: \(String(decoding: data, as: UTF8.self))") }
                cursor["reconciled"] = reconciled - 2 * 86_400
                try database.execute(
                    sql: "UPDATE source SET cursor = ? WHERE id = ?",
                    arguments: [try JSONSerialization.data(withJSONObject: cursor), id])
            }
        }
        try database.close()
    }
}
