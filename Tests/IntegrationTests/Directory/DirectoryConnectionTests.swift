import Foundation
import Testing

extension Directories {
    /// How Postern connects to a directory server, and its messages if it can't.
    @Suite(DirectoryRequirements.slapd) struct DirectoryConnectionTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        private func slapd(_ name: String = "slapd", _ adjust: (inout SlapdOptions) -> Void = { _ in }) throws
            -> SlapdInstance
        {
            var options = SlapdOptions()
            options.people = 12
            adjust(&options)
            return try SlapdInstance(in: workspace, options, name: name)
        }

        @Test("the next server is read if one is unreachable, refuses the bind or sends an incomplete list")
        func order() throws {
            let limited = try slapd("limited") { $0.sizeLimit = 5 }
            let strict = try slapd("strict") { $0.globalLines = ["disallow bind_simple"] }
            let good = try slapd("good")
            let dead = "ldap://127.0.0.1:\(try Ports.unused())"
            let uris = [dead, strict.uri, limited.uri, good.uri]
            let gateway = try DirectoryGateway(in: workspace, [.slapd(good, uris: uris)])
            let report = try gateway.publish()
            #expect(report.source?.server == good.uri)
            #expect(report.recipients == 12)
            good.stop()
            let failed = try gateway.sync("--full")
            #expect(failed.status == 75)
            // Each server has a line, in the order of the configuration.
            let lines = failed.messages.filter { $0.contains("source \"directory\": ldap://") }
            #expect(lines.count == 4, "\(failed.error)")
            for (line, (uri, operation)) in zip(lines, zip(uris, ["connect", "bind", "search", "connect"])) {
                #expect(line.contains("\(uri): \(operation): "), "\(line)")
            }
            #expect(try gateway.listed((0..<12).map(SlapdInstance.address)).count == 12)
        }

        @Test("a wrong password is reported, not tried again for a while, and appears nowhere")
        func password() throws {
            let slapd = try slapd { $0.contentSync = .on() }
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)]) {
                $0.values["sync.interval"] = "\"1s\""
            }
            let wrong = "a wrong one"
            try gateway.write(secret: wrong)
            let failed = try gateway.sync()
            #expect(failed.status == 75)
            #expect(failed.error.contains("\(slapd.uri): bind: bind_dn or the password is wrong"), "\(failed.error)")
            #expect(try gateway.index() == nil)
            try gateway.serve()
            let isSaid = eventually(within: 20) { gateway.messages.contains("the next try is in 10 minutes, or when") }
            #expect(isSaid, "\(gateway.messages)")
            func binds() -> Int { slapd.log.components(separatedBy: "RESULT tag=97 err=49").count }
            let tried = binds()
            // Some intervals pass.
            #expect(eventually(within: 3.5) { binds() > tried } == false)
            for secret in ["", SlapdInstance.password] { try gateway.write(secret: secret) }
            #expect(try gateway.comesToList([SlapdInstance.address(0)]), "\(gateway.messages)")
            let process = "/proc/\(gateway.postern?.pid ?? 0)"
            for file in ["cmdline", "environ"] {
                let text = String(
                    decoding: FileManager.default.contents(atPath: "\(process)/\(file)") ?? Data(), as: UTF8.self)
                #expect(!text.isEmpty)
                #expect(!text.contains(SlapdInstance.password))
            }
            gateway.stop()
            let kept = try FileManager.default.contentsOfDirectory(atPath: workspace.path)
                .filter { $0 != DirectoryGateway.secret }
            #expect(kept.contains("sync.sqlite"))
            for secret in [wrong, SlapdInstance.password] {
                #expect(!gateway.said.contains(secret))
                for name in kept {
                    let bytes = FileManager.default.contents(atPath: workspace.file(name)) ?? Data()
                    #expect(bytes.range(of: Data(secret.utf8)) == nil, "\(name)")
                }
            }
        }

        @Test("a bad certificate is refused with the reason; the index stays")
        func certificates() throws {
            let authority = try TestAuthority(in: workspace)
            let stranger = try TestAuthority(in: workspace, name: "stranger")
            let slapd = try slapd { $0.certificate = try? authority.issue() }
            try workspace.write("no certificate\n", to: "nothing.pem")
            let ca = authority.certificateFile
            for (uri, starttls) in [(slapd.ldapsURI, "false"), (slapd.uri, "true")] {
                func table(_ ca: String?, _ changes: [String: String?] = [:]) -> SourceTable {
                    .slapd(
                        slapd, uris: [uri],
                        [
                            "starttls": starttls, "allow_plaintext": nil, "ca_file": ca.map { "\"\($0)\"" },
                        ].merging(changes) { $1 })
                }
                let gateway = try DirectoryGateway(in: workspace, [table(ca)])
                try gateway.publish(["--full"])
                let index = try gateway.index()
                func expect(_ words: String, ca: String? = ca, _ certificate: TestAuthority.Certificate? = nil) throws {
                    if let certificate {
                        slapd.options.certificate = certificate
                        try slapd.restart()
                    }
                    try gateway.configure([table(ca)])
                    let failed = try gateway.sync("--full")
                    #expect(failed.status == 75, "\(words): \(failed.output)")
                    #expect(failed.error.contains("source \"directory\": \(uri): TLS: "), "\(failed.error)")
                    #expect(failed.error.contains(words), "\(failed.error)")
                    #expect(try gateway.index() == index)
                }
                try expect(
                    "its issuer (CN=Postern test authority ca) is not in \(stranger.certificateFile)",
                    ca: stranger.certificateFile)
                try expect(
                    "is not in /etc/ssl/certs/ca-certificates.crt; set ca_file to the file of that authority", ca: nil)
                try expect("nothing.pem has no certificate of an authority", ca: workspace.file("nothing.pem"))
                let stem = starttls == "true" ? "start" : "direct"
                try expect(
                    "the server's certificate is not accepted: it expired on ",
                    authority.issue("\(stem)-old", validity: .expired))
                // Without verification, the connection is encrypted, but the server isn't authenticated.
                try gateway.configure([table(nil, ["verify_certificate": "false"])])
                try gateway.publish(["--full"])
                try expect("it is not valid before ", authority.issue("\(stem)-early", validity: .notYet))
                try expect(
                    "it names ldap.example.net, 127.9.9.9, not 127.0.0.1",
                    authority.issue("\(stem)-other", hosts: ["ldap.example.net"], addresses: ["127.9.9.9"]))
                slapd.options.certificate = try authority.issue("\(stem)-new")
                try slapd.restart()
                try gateway.configure([table(ca)])
                try gateway.publish(["--full"])
            }
            slapd.options.certificate = nil
            try slapd.restart()
            for (uri, starttls, words) in [
                (slapd.uri, "true", "TLS: the server doesn't offer StartTLS"),
                (slapd.uri.replacingOccurrences(of: "ldap:", with: "ldaps:"), "false", "TLS: the TLS handshake failed"),
            ] {
                let gateway = try DirectoryGateway(
                    in: workspace,
                    [
                        .slapd(
                            slapd, uris: [uri], ["starttls": starttls, "allow_plaintext": nil, "ca_file": "\"\(ca)\""])
                    ])
                let failed = try gateway.sync("--full")
                #expect(failed.status == 75)
                #expect(failed.error.contains("\(uri): \(words)"), "\(failed.error)")
            }
        }

        @Test("a password isn't sent unencrypted unless that is allowed")
        func plaintext() throws {
            let slapd = try slapd()
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, ["allow_plaintext": nil])])
            let faulty = try gateway.sync()
            #expect(faulty.status == 78)
            #expect(faulty.error.contains("\"\(slapd.uri)\" would carry the password unencrypted"), "\(faulty.error)")
            #expect(!slapd.log.contains("BIND"))
            try gateway.configure([.slapd(slapd)])
            #expect(try gateway.publish().recipients == 12)
        }

        @Test("over a unix socket, the process's user authenticates without a password")
        func external() throws {
            let slapd = try slapd { $0.contentSync = .on() }
            let source = SourceTable.slapd(
                slapd, uris: [slapd.ldapiURI],
                ["bind_dn": nil, "password_file": nil, "allow_plaintext": nil, "sasl": "\"external\""])
            let gateway = try DirectoryGateway(in: workspace, [source])
            #expect(try gateway.publish().recipients == 12)
            slapd.options.external = .nobody
            try slapd.restart()
            let failed = try gateway.sync("--full")
            #expect(failed.status == 75)
            #expect(
                failed.error.contains("the base doesn't exist on this server, or the account may not see it"),
                "\(failed.error)"
            )
        }

        @Test("without an account, entries that anyone may read are read")
        func anonymous() throws {
            let slapd = try slapd { $0.access = ["to * by * read"] }
            let source = SourceTable.slapd(
                slapd, ["bind_dn": nil, "password_file": nil, "allow_plaintext": nil, "bases": nil])
            let gateway = try DirectoryGateway(in: workspace, [source])
            #expect(try gateway.publish().recipients == 12)
            slapd.options.globalLines = ["require bind"]
            try slapd.restart()
            let failed = try gateway.sync("--full")
            #expect(failed.status == 75)
            #expect(failed.error.contains("\(slapd.uri): search: "), "\(failed.error)")
            #expect(try gateway.listed([SlapdInstance.address(0)]).count == 1)
        }

        @Test("a password file that others may read is noted, a missing or empty one is reported")
        func passwordFile() throws {
            let slapd = try slapd()
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            try gateway.write(secret: SlapdInstance.password, mode: 0o644)
            let noted = try gateway.sync()
            #expect(noted.status == 0)
            #expect(
                noted.error.contains("note: source[0].password_file: other users than the owner can use"),
                "\(noted.error)")
            #expect(noted.error.contains("(mode 0644); chmod 600 it"))
            try gateway.write(secret: "")
            let empty = try gateway.sync("--full")
            #expect(empty.status == 75)
            #expect(empty.error.contains("has no password in its first line"), "\(empty.error)")
            try FileManager.default.removeItem(atPath: workspace.file(DirectoryGateway.secret))
            let missing = try gateway.sync("--full")
            #expect(missing.error.contains("No such file or directory"), "\(missing.error)")
            #expect(missing.status != 0)
            #expect(try gateway.listed([SlapdInstance.address(0)]).count == 1)
        }
    }
}
