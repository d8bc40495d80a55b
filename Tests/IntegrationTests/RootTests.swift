import Foundation
import Glibc
import TestSupport
import Testing

extension FilterAlone {
    /// Commands that root runs in a folder of the filter's user: they act as that user.
    @Suite(.enabled(if: geteuid() == 0)) struct RootTests {
        /// A user ID that no machine has, so that the folder belongs to no other user.
        private static let user: uid_t = 64_123

        private let workspace: Workspace
        private let configuration: PosternConfiguration
        private var folder: String { workspace.file("data") }

        init() throws {
            workspace = try Workspace()
            try workspace.makeFolder("data")
            chown(workspace.file("data"), Self.user, Self.user)
            var configuration = try PosternConfiguration(in: workspace)
            configuration.values["index.path"] = "\"data/recipients.index\""
            configuration.values["sync.state"] = "\"data/sync.sqlite\""
            configuration.values["log.database"] = "\"data/rejections.sqlite\""
            try configuration.write()
            self.configuration = configuration
        }

        private func owner(_ name: String) -> uid_t? {
            var status = stat()
            return lstat("\(folder)/\(name)", &status) == 0 ? status.st_uid : nil
        }

        @Test("files that root's sync creates belong to the filter's user")
        func ownership() throws {
            let synced = try configuration.run(["sync", "--once"])
            #expect(synced.ending == .exited(0), "\(synced)")
            #expect(synced.error.contains("postern acts as"))
            let names = try FileManager.default.contentsOfDirectory(atPath: folder)
            #expect(names.contains("recipients.index") && names.contains("sync.sqlite"))
            for name in names { #expect(owner(name) == Self.user, "\(name)") }
            // The filter's user can go on with them.
            let again = try workspace.run(
                "/usr/bin/setpriv",
                [
                    "--reuid=\(Self.user)", "--regid=\(Self.user)", "--clear-groups", PosternProcess.executable, "sync",
                    "--once", "--config", workspace.file("postern.toml"),
                ])
            // Where the program can't be reached by that user, this shows nothing.
            if again.ending != .exited(126), again.ending != .exited(127) {
                #expect(again.ending == .exited(0), "\(again)")
            }
        }

        @Test(
            "root's sync doesn't follow a symbolic link in the filter's folder",
            arguments: ["sync.sqlite.lock", "sync.sqlite"])
        func links(_ name: String) throws {
            let precious = try workspace.write("precious", to: "precious")
            chmod(precious, 0o640)
            #expect(symlink(precious, "\(folder)/\(name)") == 0)
            let synced = try configuration.run(["sync", "--once"])
            #expect(synced.ending != .exited(0), "\(synced)")
            #expect(synced.error.contains("\(folder)/\(name)"), "\(synced.error)")
            #expect(workspace.text(of: "precious") == "precious")
            var status = stat()
            #expect(stat(precious, &status) == 0)
            #expect(status.st_uid == 0)
            #expect(status.st_mode & 0o777 == 0o640)
        }

        @Test("status reports files that only root can read")
        func statusJudgesWhatTheFilterCanDo() throws {
            #expect(try configuration.run(["sync", "--once"]).ending == .exited(0))
            for name in ["sync.sqlite", "recipients.index"] { chown("\(folder)/\(name)", 0, 0) }
            for name in ["sync.sqlite", "recipients.index"] { chmod("\(folder)/\(name)", 0o600) }
            let status = try configuration.run(["status"])
            #expect(status.ending == .exited(1))
            #expect(status.output.contains("recipients.index: can't be opened: Permission denied"), "\(status.output)")
            #expect(status.output.contains("sync.sqlite is missing or can't be read"), "\(status.output)")
        }

        @Test("root's sync rejects folders that belong to different users")
        func severalOwners() throws {
            var configuration = configuration
            try workspace.makeFolder("other")
            chown(workspace.file("other"), Self.user + 1, Self.user + 1)
            configuration.values["index.path"] = "\"other/recipients.index\""
            try configuration.write()
            let synced = try configuration.run(["sync", "--once"])
            #expect(synced.ending == .exited(77))
            #expect(synced.error.contains("several users"), "\(synced.error)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
        }
    }
}
