import Foundation
import Glibc
import System

/// Writes a migrated configuration and its secrets into files.
public struct MigrationOutput {
    private let file: String
    private let secretsFolder: String
    /// Whether files that exist are replaced.
    private let replaces: Bool

    /// - Parameters:
    ///   - file: the configuration file.
    ///   - secrets: the folder of the secrets; nil for the folder of the file.
    ///   - replaces: whether files that exist are replaced.
    public init(file: String, secrets: String?, replaces: Bool) {
        self.file = file
        secretsFolder = absolutePath(secrets ?? folder(of: file))
        self.replaces = replaces
    }

    /// Writes the secrets (0600) and then the configuration (0640). After a failure no new file is left.
    ///
    /// Where root writes and there is a user postern, that user gets the secrets, and its group the configuration.
    ///
    /// - Returns: the paths of the secrets' files that were written; one that holds the same password already stays.
    public func write(_ configuration: MigratedConfiguration) throws(MigrationError) -> [String] {
        let secrets = configuration.secrets.map { (path: "\(secretsFolder)/\($0.name)", value: "\($0.value)\n") }
        let text = ConfigurationWriter(configuration, secretsFolder: secretsFolder, writesSecrets: true).toml
        // A password that lies there already needs no --force.
        let changed = secrets.filter { FileManager.default.contents(atPath: $0.path) != Data($0.value.utf8) }
        for folder in [folder(of: file)] + (secrets.isEmpty ? [] : [secretsFolder]) where !TextFile.exists(folder) {
            throw MigrationError(.cannotCreate, "\(folder): no such folder: make it first")
        }
        if !replaces,
            let present = ([file] + changed.map(\.path)).first(where: { TextFile.exists($0) && !isAsInstalled($0) })
        {
            throw MigrationError(.cannotCreate, "\(present) exists already: --force replaces it")
        }
        let user = getpwnam("postern").map { ($0.pointee.pw_uid, $0.pointee.pw_gid) }
        var made: [String] = []
        do throws(MigrationError) {
            for secret in changed {
                try make(secret.path, secret.value, mode: 0o600, owner: user, &made)
            }
            try make(file, text, mode: 0o640, owner: user.map { (0, $0.1) }, &made)
        } catch {
            for path in made { unlink(path) }
            throw error
        }
        for path in made {
            // The files are whole under their other names.
            guard rename(path, String(path.dropLast(Self.suffix.count))) == 0 else {
                let failure = MigrationError(file: path, doing: "can't be renamed", otherwise: .cannotCreate)
                for path in made { unlink(path) }
                throw failure
            }
        }
        return changed.map(\.path)
    }

    /// Whether the file is the configuration that the package installs, unchanged.
    private func isAsInstalled(_ path: String) -> Bool {
        FileManager.default.contentsEqual(atPath: path, andPath: "/usr/share/postern/postern.toml")
    }

    private static let suffix = ".postern-new"

    private func make(
        _ path: String, _ text: String, mode: mode_t, owner: (uid_t, gid_t)?, _ made: inout [String]
    ) throws(MigrationError) {
        let temporary = path + Self.suffix
        unlink(temporary)
        try TextFile.create(temporary, Array(text.utf8), mode: mode, owner: owner.map { (user: $0.0, group: $0.1) })
        made.append(temporary)
    }
}

private func absolutePath(_ path: String) -> String {
    path.hasPrefix("/") ? path : URL(fileURLWithPath: path).path
}
