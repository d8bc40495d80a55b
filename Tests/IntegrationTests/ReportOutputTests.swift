import Foundation
import TestSupport
import Testing

/// `postern report` in every format, as a mail, and handed to a sendmail.
@Suite(.serialized) struct ReportOutputTests {
    private let filter: LoneFilter

    init() throws {
        filter = try LoneFilter()
        #expect(try filter.answer("nobody@example.com").hasPrefix("550"))
        #expect(try filter.answer("=cmd|' /C calc'!A0@example.com").hasPrefix("5"))
        // The rows are in the database once a report has them.
        let filter = filter
        #expect(eventually(within: 30) { (try? filter.report().totals.refused) == 2 })
    }

    private func report(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> (ending: ChildProcess.Ending, output: String, error: String) {
        try filter.workspace.run(
            PosternProcess.executable, ["report", "--config", filter.workspace.file("postern.toml")] + arguments,
            environment: environment)
    }

    /// A program in sendmail's place that keeps its arguments and what it was given, and ends with this status.
    private func sendmail(status: Int) throws -> String {
        let path = try filter.workspace.write(
            """
            #!/bin/sh
            printf '%s\\n' "$@" >'\(filter.workspace.path)/arguments'
            cat >'\(filter.workspace.path)/mail'
            exit \(status)

            """, to: "sendmail")
        chmod(path, 0o755)
        return path
    }

    @Test func reportHasEveryFormat() throws {
        for (format, beginning) in [
            ("text", "Rejected recipients"), ("json", "{"), ("csv", "section,key,"), ("html", "<!DOCTYPE html>"),
        ] {
            let result = try report(["--format", format])
            #expect(result.ending == .exited(0), "\(result.error)")
            #expect(result.output.hasPrefix(beginning))
            #expect(result.output.contains("nobody@example.com"))
            #expect(!result.output.contains("\u{1B}"))
            let redacted = try report(["--format", format, "--redact"])
            #expect(redacted.output.contains("*@example.com") && !redacted.output.contains("nobody"))
        }
    }

    @Test func textIsASCIIWithoutAUnicodeLocale() throws {
        let ascii = try report([], environment: ["LC_ALL": "C", "LANG": "C"])
        #expect(ascii.output.utf8.allSatisfy { $0 < 0x80 } && ascii.output.contains("###"))
        let unicode = try report([], environment: ["LC_ALL": "C.UTF-8"])
        #expect(unicode.output.contains("███"))
    }

    @Test func mailIsValidMIME() throws {
        let result = try report([
            "--mail", "postmaster@example.com, root@example.org", "--mail", "third@bücher.example",
        ])
        #expect(result.ending == .exited(0), "\(result.error)")
        guard FileManager.default.isExecutableFile(atPath: "/usr/bin/python3") else { return }
        let program = """
            import email, email.policy, email.utils, sys
            message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
            assert not message.defects, message.defects
            assert message.get_content_type() == "multipart/alternative"
            assert message["Auto-Submitted"] == "auto-generated"
            assert email.utils.parsedate_to_datetime(message["Date"])
            assert message["Message-ID"].startswith("<postern.report.")
            print(message["Subject"])
            print(message["To"])
            for part in message.iter_parts():
                assert not part.defects, part.defects
                print(part.get_content_type())
            print(message.get_body(("plain",)).get_content())
            assert message.get_body(("html",)).get_content().startswith("<!DOCTYPE html>")
            """
        let read = try filter.workspace.run("/usr/bin/python3", ["-c", program], input: result.output)
        #expect(read.ending == .exited(0), "\(read.error)")
        let lines = read.output.split(separator: "\n")
        #expect(lines.first?.contains("2 rejected") == true)
        #expect(lines[1] == "postmaster@example.com, root@example.org, third@xn--bcher-kva.example")
        #expect(lines[2...3] == ["text/plain", "text/html"])
        #expect(lines[4].hasPrefix("Rejected recipients  "))
        #expect(read.output.contains("nobody@example.com"))
    }

    @Test func sendmailGetsTheMailAndItsFailureIsReported() throws {
        let path = try sendmail(status: 0)
        let sent = try report(["--mail", "postmaster@example.com", "--send", "--sendmail", path])
        #expect(sent.ending == .exited(0) && sent.output.isEmpty && sent.error.isEmpty, "\(sent)")
        #expect(filter.workspace.text(of: "arguments") == "-t\n-i\n")
        #expect(filter.workspace.text(of: "mail").contains("\nTo: postmaster@example.com\n"))
        let from = try report([
            "--mail", "postmaster@example.com", "--from", "gateway@example.com", "--send", "--sendmail", path,
        ])
        #expect(from.ending == .exited(0))
        #expect(filter.workspace.text(of: "arguments") == "-t\n-i\n-f\ngateway@example.com\n")
        #expect(filter.workspace.text(of: "mail").hasPrefix("From: Postern <gateway@example.com>\n"))

        let refused = try report(["--mail", "postmaster@example.com", "--send", "--sendmail", try sendmail(status: 75)])
        #expect(refused.ending == .exited(75))
        #expect(refused.error.contains("exit status 75, temporary failure: try again later"))
        let missing = try report(["--mail", "postmaster@example.com", "--send", "--sendmail", "/nonexistent/sendmail"])
        #expect(missing.ending == .exited(69))
        #expect(missing.error.contains("/nonexistent/sendmail can't be started"))
    }

    @Test func invalidOptionsAreReported() throws {
        for arguments in [
            ["--send"], ["--from", "a@example.com"], ["--mail", "a@example.com", "--format", "html"],
            ["--mail", "a@example.com", "--sendmail", "/usr/sbin/sendmail"],
            ["--mail", "a@example.com", "--send", "--sendmail", "sendmail"], ["--mail", ""],
            ["--mail", "a@example.com,"],
            ["--mail", "a@example.com\nBcc: x@evil.example"], ["--mail", "-oQ/tmp@example.com"],
            ["--mail", "a@example.com", "--from", "a b@example.com"], ["--format", "pdf"],
        ] {
            let result = try report(arguments)
            #expect(result.ending == .exited(64), "\(arguments): \(result)")
            #expect(result.output.isEmpty && result.error.contains("--"))
        }
    }
}
