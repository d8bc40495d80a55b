import Foundation
import GRDB

extension SourceTable {
    /// The account with which Postern binds to a domain controller.
    enum Account {
        /// An account without special rights.
        case service
        case administrator

        /// The file with its password, in the test's folder.
        var secret: String {
            switch self {
            case .service: "service.secret"
            case .administrator: "administrator.secret"
            }
        }

        fileprivate var name: String {
            switch self {
            case .service: SambaInstance.bindDN
            case .administrator: SambaInstance.administratorName
            }
        }
    }

    /// A private domain controller, over ldaps by default.
    ///
    /// - Parameter bases: the search bases; empty for the whole domain.
    static func samba(
        _ samba: SambaInstance, as account: Account = .service, uris: [String]? = nil, bases: [String] = [],
        _ changes: [String: String?] = [:]
    ) -> SourceTable {
        var table = SourceTable(
            "directory", type: "active-directory",
            [
                "uris": list(uris ?? [samba.ldapsURI]), "bind_dn": "\"\(account.name)\"",
                "password_file": "\"\(account.secret)\"", "ca_file": "\"\(samba.authorityFile)\"",
                "timeout": "\"10s\"",
            ])
        if !bases.isEmpty { table["bases"] = list(bases) }
        return table.with(changes)
    }

    /// A TOML list of texts.
    static func list(_ texts: [String]) -> String {
        "[\(texts.map { "\"\($0)\"" }.joined(separator: ", "))]"
    }
}

extension DirectoryGateway {
    /// Postern with a domain controller as its source, with the passwords of both accounts.
    convenience init(
        in workspace: Workspace, of source: SourceTable, _ adjust: (inout PosternConfiguration) -> Void = { _ in }
    ) throws {
        try self.init(in: workspace, [source], adjust)
        try write(secret: SambaInstance.password, to: SourceTable.Account.service.secret)
        try write(secret: SambaInstance.administratorPassword, to: SourceTable.Account.administrator.secret)
    }

    // MARK: The state

    /// Changes members of the cursor in the state, which is a JSON object.
    func editCursor(_ change: (inout [String: Any]) throws -> Void) throws {
        try editCursor { data in
            guard var cursor = try JSONSerialization.jsonObject(with: data) as? [String: Any] else {
                throw ChildProcess.Failure(description: "no cursor: \(String(decoding: data, as: UTF8.self))")
            }
            try change(&cursor)
            return try JSONSerialization.data(withJSONObject: cursor)
        }
    }

    /// Replaces the cursor of the last sync by other bytes.
    func editCursor(_ change: (Data) throws -> Data) throws {
        try editState { database in
            guard let data = try Data.fetchOne(database, sql: "SELECT cursor FROM source") else {
                throw ChildProcess.Failure(description: "no cursor")
            }
            try database.execute(sql: "UPDATE source SET cursor = ?", arguments: [try change(data)])
        }
    }

    /// Removes addresses from the state, as if Postern had missed the changes that added them.
    func forget(_ addresses: [String]) throws {
        try editState { database in
            for address in addresses {
                try database.execute(sql: "DELETE FROM entry WHERE address = ?", arguments: [address])
                guard database.changesCount > 0 else {
                    throw ChildProcess.Failure(description: "\(address) is not in the state")
                }
            }
        }
    }

    private func editState(_ change: (Database) throws -> Void) throws {
        let database = try DatabaseQueue(path: workspace.file("sync.sqlite"))
        try database.write(change)
        try database.close()
    }
}

/// The two organizational units of a test: Postern reads one and not the other.
struct TestUnits {
    let inside: String
    let outside: String

    init(_ name: String, of samba: SambaInstance) throws {
        let unit = try samba.addUnit(name)
        inside = try samba.addUnit("Inside", below: unit)
        outside = try samba.addUnit("Outside", below: unit)
    }
}

/// The ways to follow an Active Directory's changes, as the configuration names them.
enum FollowingWay: String, CaseIterable {
    case auto, usn

    /// The method's name in reports.
    var method: String { self == .auto ? "DirSync" : "uSNChanged" }
}

extension SambaInstance {
    /// A cookie of DirSync as another controller would have made it: with another invocation id.
    func asOfAnotherController(_ cookie: Data) throws -> Data {
        let found = try administrator.search(
            "(objectClass=nTDSDSA)", base: Self.configurationBase, attributes: ["invocationId"])
        guard let text = found.entries.first?["invocationId"].first, let id = Data(base64Encoded: text),
            let first = cookie.range(of: id)
        else { throw ChildProcess.Failure(description: "the cookie doesn't name the controller") }
        var other = cookie
        var next: Range<Data.Index>? = first
        while let place = next {
            other.replaceSubrange(place, with: Data(0..<16))
            next = other.range(of: id)
        }
        return other
    }
}
