import Foundation
import Glibc
import Testing

extension Integration {
    /// `postern migrate` against configurations of Postfix and Sendmail in folders of the test's own.
    @Suite struct MigrationTests {
        /// Runs `postern migrate` with these arguments.
        private func migrate(
            _ arguments: [String], in workspace: Workspace
        ) throws -> (ending: ChildProcess.Ending, output: String, error: String) {
            try workspace.run(PosternProcess.executable, ["migrate"] + arguments)
        }

        /// Moves the files that Postern writes into the test's folder.
        private func useFolder(_ workspace: Workspace, for configuration: String) throws {
            let text = try String(contentsOfFile: configuration, encoding: .utf8)
            let folder = try workspace.makeFolder("state")
            let own =
                "\n[index]\npath = \"\(folder)/index\"\n[sync]\nstate = \"\(folder)/sync.sqlite\"\n[log]\ndatabase = "
                + "\"\(folder)/log.sqlite\"\n"
            try Data((text + own).utf8).write(to: URL(fileURLWithPath: configuration))
        }

        private func writePostfix(_ workspace: Workspace, directory: SlapdInstance) throws -> String {
            let folder = try workspace.makeFolder("etc")
            func table(_ type: String, _ name: String, _ lines: String) throws -> String {
                let path = try workspace.write(lines, to: "etc/\(name)")
                if type != "texthash" {
                    let made = try workspace.run("/usr/sbin/postmap", ["-c", folder, "\(type):\(path)"])
                    try #require(made.ending == .exited(0), "\(made.error)")
                }
                return "\(type):\(path)"
            }
            try workspace.write("compatibility_level = 3.6\n", to: "etc/main.cf")
            try workspace.write("smtp inet n - y - - smtpd\n", to: "etc/master.cf")
            let hash = try table("hash", "recipients", "hash@example.com OK\nwhole@example.com OK\n")
            let lmdb = try table("lmdb", "more", "lmdb@example.org OK\n")
            // Only the database is left.
            try FileManager.default.removeItem(atPath: "\(folder)/more")
            let domains = try table("texthash", "relay", "example.com OK\nexample.org OK\n")
            let virtual = try table(
                "texthash", "virtual",
                "alias.example anything\n@alias.example @example.com\nv@example.com hash@example.com\n")
            let ldap = try workspace.write(
                "server_host = \(directory.uri)\nsearch_base = \(SlapdInstance.people)\nquery_filter = (mail=%s)\n"
                    + "result_attribute = mail\nbind_dn = \(SlapdInstance.bindDN)\nbind_pw = \(SlapdInstance.password)\nversion = 3\n",
                to: "etc/people.cf")
            try workspace.write(
                """
                # A gateway.
                compatibility_level = 3.6
                queue_directory = \(folder)/queue
                mydestination =
                relay_domains = \(domains)
                relay_recipient_maps = \(hash), \(lmdb),
                    proxy:ldap:\(ldap), inline:{ inline@example.com=OK }
                virtual_alias_maps = \(virtual)
                virtual_alias_domains = alias.example
                mynetworks = 127.0.0.0/8, 10.20.0.0/24
                recipient_delimiter = +
                smtpd_milters = inet:127.0.0.1:8899
                non_smtpd_milters = $smtpd_milters

                """, to: "etc/main.cf")
            return folder
        }

        @Test(
            "Postern accepts the recipients that Postfix's tables have, and no others",
            .enabled(if: SlapdInstance.obstacle == nil))
        func postfix() throws {
            let workspace = try Workspace()
            let directory = try SlapdInstance(in: workspace, SlapdOptions(people: 3))
            let folder = try writePostfix(workspace, directory: directory)
            let file = workspace.file("postern.toml")
            let migrated = try migrate(["postfix", "--conf-dir", folder, "--output", file], in: workspace)
            try #require(migrated.ending == .exited(0), "\(migrated.error)")
            let text = try String(contentsOfFile: file, encoding: .utf8)
            #expect(!(text + migrated.error).contains(SlapdInstance.password))
            #expect(text.contains("alias_of = \"example.com\""))
            #expect(text.contains("socket = \"unix:\(folder)/queue/postern/milter.sock\""))
            let checked = try workspace.run(PosternProcess.executable, ["config", "check", "--config", file])
            #expect(checked.ending == .exited(0), "\(checked.error)\n\(text)")
            try useFolder(workspace, for: file)
            let synced = try workspace.run(PosternProcess.executable, ["sync", "--once", "--config", file])
            try #require(synced.ending == .exited(0), "\(synced.output)\(synced.error)\n\(text)")

            var recipients = [
                "hash@example.com", "whole@example.com", "lmdb@example.org", "inline@example.com", "v@example.com",
                "nobody@example.com", "lmdb@example.com", "hash@example.org",
            ]
            recipients += (0..<3).map(SlapdInstance.address)
            let judged = try workspace.run(
                PosternProcess.executable, ["check", "--batch", "--config", file],
                input: recipients.map { "\($0)\n" }.joined())
            let verdicts = judged.output.split(separator: "\n").map { $0.hasPrefix("accept") }
            try #require(verdicts.count == recipients.count, "\(judged.error)")
            let maps = [
                "hash:\(folder)/recipients", "lmdb:\(folder)/more", "ldap:\(folder)/people.cf",
                "inline:{ inline@example.com=OK }", "texthash:\(folder)/virtual",
            ]
            for (recipient, verdict) in zip(recipients, verdicts) {
                let isKnown = try maps.contains {
                    try workspace.run("/usr/sbin/postmap", ["-c", folder, "-q", recipient, $0]).ending == .exited(0)
                }
                #expect(
                    isKnown == verdict, "<\(recipient)>: Postfix knows it: \(isKnown), Postern accepts it: \(verdict)")
            }
        }

        @Test("--apply hooks up Postern, --revert gives main.cf back byte for byte, unless others have changed it")
        func applyAndRevert() throws {
            let workspace = try Workspace()
            let folder = try workspace.makeFolder("etc")
            let main =
                "# mine\ncompatibility_level = 3.6\nrelay_domains = example.com\nsmtpd_milters = inet:127.0.0.1:8899\n# end\n"
            let file = try workspace.write(main, to: "etc/main.cf")
            chmod(file, 0o640)
            chown(file, 1, 2)
            try workspace.write("smtp inet n - n - - smtpd\n", to: "etc/master.cf")
            let arguments = ["postfix", "--conf-dir", folder]
            let applied = try migrate(arguments + ["--apply"], in: workspace)
            #expect(applied.ending == .exited(0), "\(applied.error)")
            #expect(applied.output.contains("postfix -c \(folder) reload"))
            let changed = workspace.text(of: "etc/main.cf")
            #expect(changed.contains("unix:/run/postern/milter.sock"))
            #expect(workspace.text(of: "etc/main.cf.before-postern") == main)
            func owner() -> [Int] {
                var status = stat()
                stat(file, &status)
                return [Int(status.st_uid), Int(status.st_gid), Int(status.st_mode & 0o7777)]
            }
            #expect(owner() == [1, 2, 0o640])
            try Data((changed + "biff = no\n").utf8).write(to: URL(fileURLWithPath: file))
            let refused = try migrate(arguments + ["--revert"], in: workspace)
            #expect(refused.ending == .exited(65))
            #expect(refused.error.contains("biff = no"), "\(refused.error)")
            try Data(changed.utf8).write(to: URL(fileURLWithPath: file))
            #expect(try migrate(arguments + ["--revert"], in: workspace).ending == .exited(0))
            #expect(workspace.text(of: "etc/main.cf") == main)
            #expect(owner() == [1, 2, 0o640])
            #expect(try migrate(arguments + ["--revert"], in: workspace).ending == .exited(66))
        }

        @Test("bad input ends with one line, an exit status of sysexits, and no file")
        func badInput() throws {
            let workspace = try Workspace()
            let folder = try workspace.makeFolder("etc")
            let script = try workspace.write("print 'hello';\n", to: "script.pl")
            let output = ["--output", workspace.file("postern.toml")]
            func status(_ arguments: [String]) throws -> ChildProcess.Ending {
                let result = try migrate(arguments + output, in: workspace)
                #expect(result.error.split(separator: "\n").count == 1, "\(result.error)")
                #expect(!FileManager.default.fileExists(atPath: workspace.file("postern.toml")))
                return result.ending
            }
            #expect(try status(["postfix", "--conf-dir", folder]) == .exited(66))
            #expect(try status(["sendmail", "--conf-dir", folder]) == .exited(66))
            #expect(try status(["getadsmtp", script]) == .exited(65))
            try workspace.write(
                "compatibility_level = 3.6\nrelay_domains = example.com\nrelay_recipient_maps = hash:\(folder)/none\n",
                to: "etc/main.cf")
            try workspace.write("", to: "etc/master.cf")
            #expect(try status(["postfix", "--conf-dir", folder]) == .exited(66))
        }

        @Test("Sendmail's tables become sources, and domains without a list an open question")
        func sendmail() throws {
            let workspace = try Workspace()
            let folder = try workspace.makeFolder("mail")
            try workspace.write(
                """
                FEATURE(`access_db', `hash -o \(folder)/access')dnl
                FEATURE(`virtusertable', `hash -o \(folder)/virtusertable')dnl
                FEATURE(`blocklist_recipients')dnl
                VIRTUSER_DOMAIN(`virt.test alias.test')dnl
                MAILER(`smtp')dnl

                """, to: "mail/sendmail.mc")
            try workspace.write("main.test\n", to: "mail/relay-domains")
            try workspace.write("To:open.test RELAY\nConnect:10.1 RELAY\nTo:bad@open.test REJECT\n", to: "mail/access")
            try workspace.write(
                "joe@virt.test x@main.test\n@virt.test error:nouser 550 No\n@alias.test %1@main.test\n",
                to: "mail/virtusertable")
            let file = workspace.file("postern.toml")
            let migrated = try migrate(["sendmail", "--conf-dir", folder, "--output", file], in: workspace)
            try #require(migrated.ending == .exited(0), "\(migrated.error)")
            #expect(
                migrated.error.contains("Relayed without a list of recipients: main.test, open.test."),
                "\(migrated.error)")
            let text = try String(contentsOfFile: file, encoding: .utf8)
            let checked = try workspace.run(PosternProcess.executable, ["config", "check", "--config", file])
            #expect(checked.ending == .exited(0), "\(checked.error)\n\(text)")
            try useFolder(workspace, for: file)
            let synced = try workspace.run(PosternProcess.executable, ["sync", "--once", "--config", file])
            try #require(synced.ending == .exited(0), "\(synced.output)\(synced.error)\n\(text)")
            let recipients = [
                ("joe@virt.test", true), ("jim@virt.test", false), ("x@alias.test", true), ("x@main.test", true),
                ("x@open.test", true), ("x@other.test", false),
            ]
            for (recipient, isAccepted) in recipients {
                let result = try workspace.run(PosternProcess.executable, ["check", recipient, "--config", file])
                #expect((result.ending == .exited(0)) == isAccepted, "\(recipient): \(result.output)")
            }
            let applied = try migrate(["sendmail", "--conf-dir", folder, "--apply"], in: workspace)
            #expect(applied.ending == .exited(0), "\(applied.error)")
            #expect(
                workspace.text(of: "mail/sendmail.mc").contains(
                    "INPUT_MAIL_FILTER(`postern', `S=unix:/run/postern/milter.sock, T=C:30s;S:10s;R:10s;E:5m')dnl\nMAILER(`smtp')dnl"
                ))
        }
    }
}
