import Foundation
import Glibc

/// A private Postfix with a milter, without the delays and limits for clients that make errors.
final class Postfix {
    let port: UInt16
    private let child: Child
    private let folder: String

    /// - Parameter settings: lines of main.cf in addition to the common ones.
    init(_ settings: [String: String], name: String = "postfix") throws {
        port = try Ports.unused()
        folder = try Scratch.folder(name)
        for part in ["etc", "queue", "data"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(part)", withIntermediateDirectories: true)
        }
        guard let owner = getpwnam("postfix"), chown("\(folder)/data", owner.pointee.pw_uid, owner.pointee.pw_gid) == 0
        else { throw Failure("\(folder)/data can't be given to the user postfix") }
        let main = Self.common.merging(settings) { $1 }.merging([
            "queue_directory": "\(folder)/queue", "data_directory": "\(folder)/data",
            "maillog_file": "\(folder)/maillog", "maillog_file_prefixes": folder,
        ]) { $1 }
        let lines = main.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)\n" }
        try Scratch.write(lines.joined(), to: "\(folder)/etc/main.cf")
        try Scratch.write(Self.services(port), to: "\(folder)/etc/master.cf")
        child = try Child(
            "/usr/sbin/postfix", ["-c", "\(folder)/etc", "start-fg"], output: "\(folder)/start.log",
            error: "\(folder)/start.log", isDaemon: true)
        let port = port
        let child = child
        guard eventually(within: 30, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw Failure(
                "Postfix doesn't answer:\n\(Scratch.tail(of: "\(folder)/start.log"))\(Scratch.tail(of: "\(folder)/maillog"))"
            )
        }
    }

    func stop() { child.end() }

    private static let common = [
        "compatibility_level": "3.6", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
        "myhostname": "gateway.example.test", "mydestination": "", "local_recipient_maps": "", "alias_maps": "",
        "mynetworks": "127.0.0.9/32", "relay_domains": "example.com", "relay_recipient_maps": "",
        "smtpd_relay_restrictions": "reject_unauth_destination", "default_transport": "discard",
        "relay_transport": "discard", "show_user_unknown_table_name": "no", "smtpd_peername_lookup": "no",
        "disable_dns_lookups": "yes", "smtpd_tls_security_level": "none", "smtpd_error_sleep_time": "0",
        "smtpd_soft_error_limit": "100000000", "smtpd_hard_error_limit": "100000000",
        "smtpd_junk_command_limit": "100000000", "smtpd_client_connection_count_limit": "0", "in_flow_delay": "0",
        "smtpd_recipient_limit": "100000000", "milter_default_action": "tempfail", "enable_long_queue_ids": "yes",
    ]

    private static func services(_ port: UInt16) -> String {
        """
        127.0.0.1:\(port) inet n - n - - smtpd
        cleanup unix n - n - 0 cleanup
        qmgr unix n - n 300 1 qmgr
        rewrite unix - - n - - trivial-rewrite
        bounce unix - - n - 0 bounce
        defer unix - - n - 0 bounce
        trace unix - - n - 0 bounce
        proxymap unix - - n - - proxymap
        anvil unix - - n - 1 anvil
        error unix - - n - - error
        retry unix - - n - - error
        discard unix - - n - - discard
        postlog unix-dgram n - n - 1 postlogd

        """
    }
}

/// An SMTP client that sends RCPT TO.
final class SMTPSession {
    private let descriptor: Int32
    private var unread: [UInt8] = []
    private var accepted = 0

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var yes: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard Ports.withAddress("127.0.0.1", port, { connect(descriptor, $0, $1) }) == 0 else {
            throw Failure("Postfix: \(String(cString: strerror(errno)))")
        }
        try expect(220, reply())
        try expect(250, command("HELO client.example.test"))
        try expect(250, command("MAIL FROM:<sender@client.example.test>"))
    }

    deinit { close(descriptor) }

    /// The code of the answer to RCPT TO.
    func ask(_ recipient: String) throws -> Int {
        let code = try command("RCPT TO:<\(recipient)>")
        accepted += code == 250 ? 1 : 0
        if accepted >= 100 {
            try expect(250, command("RSET"))
            try expect(250, command("MAIL FROM:<sender@client.example.test>"))
            accepted = 0
        }
        return code
    }

    private func command(_ text: String) throws -> Int {
        let bytes = Array("\(text)\r\n".utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw Failure("Postfix has closed the connection")
        }
        return try reply()
    }

    private func reply() throws -> Int {
        while true {
            while let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let line = unread[..<end]
                let code = Int(String(decoding: line.prefix(3), as: UTF8.self))
                let isLast = line.count < 4 || line[line.startIndex + 3] != UInt8(ascii: "-")
                unread.removeSubrange(...end)
                if isLast, let code { return code }
            }
            var buffer = [UInt8](repeating: 0, count: 4_096)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { throw Failure("Postfix doesn't answer") }
            unread += buffer.prefix(count)
        }
    }

    private func expect(_ code: Int, _ given: Int) throws {
        guard code == given else { throw Failure("Postfix answered \(given), not \(code)") }
    }
}
