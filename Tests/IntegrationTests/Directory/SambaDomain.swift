import Foundation
import Glibc
import Synchronization

/// The domain of all private controllers, as a folder: made once a process, which takes 6 s, and copied for each
/// controller, which takes 50 ms.
enum SambaDomain {
    /// Without waiting for the disk: the kernel keeps the writes of a killed Samba.
    static let environment = ["TDB_NO_FSYNC": "1"]
    private static let made = Mutex<Workspace?>(nil)

    /// Copies the domain into a new folder.
    static func copy(to folder: String) throws {
        try made.withLock { made in
            let workspace = try made ?? provision()
            made = workspace
            let copied = try workspace.run("/bin/cp", ["-a", workspace.file("domain"), folder])
            guard copied.ending == .exited(0) else { throw ChildProcess.Failure(description: copied.error) }
        }
    }

    /// Runs a command of `controller.py` with the Python that Samba's modules belong to.
    static func control(_ arguments: [String], in workspace: Workspace) throws {
        let script = file("controller.py")
        let result = try workspace.run("/usr/bin/python3", ["-I", script] + arguments, environment: environment)
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "\(arguments[0]): \(result.ending)\n\(result.error)")
        }
    }

    private static func provision() throws -> Workspace {
        let workspace = try Workspace()
        let folder = try workspace.makeFolder("domain", mode: 0o700)
        let conf = try workspace.write("[global]\ndsdb:schema update allowed = yes\n", to: "first.conf")
        try control(
            [
                "provision", conf, folder, SambaInstance.name, SambaInstance.realm,
                SambaInstance.administratorPassword, file("exchange.ldif"),
            ], in: workspace)
        try control(
            [
                "account", "\(folder)/etc/smb.conf", SambaInstance.bindDN, SambaInstance.account,
                SambaInstance.password, SambaInstance.people,
            ], in: workspace)
        for name in ["cache", "lock", "run"] { try workspace.makeFolder("domain/\(name)") }
        // The workspace lives as long as the process, which ends without releasing it.
        atexit { SambaDomain.made.withLock { $0 = nil } }
        return workspace
    }

    private static func file(_ name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(name).path
    }
}
