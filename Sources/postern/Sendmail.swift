import Foundation

/// Sends a complete mail with the MTA's sendmail(1).
enum Sendmail {
    static let defaultPath = "/usr/sbin/sendmail"

    /// Sends the message to the recipients of its header. A failure ends the command with a message and sendmail's exit
    /// status.
    ///
    /// - Parameter sender: the envelope sender; nil leaves the choice to sendmail.
    static func send(_ message: String, path: String, sender: String?) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        // Without a shell, nothing has to be quoted.
        process.arguments = ["-t", "-i"] + (sender.map { ["-f", $0] } ?? [])
        // A file, not a pipe: a pipe would fail if sendmail ended before it has read everything.
        guard let file = tmpfile() else {
            throw Messages.fail(
                "can't make a temporary file for the mail: \(String(cString: strerror(errno)))", ExitStatus.cannotCreate
            )
        }
        defer { fclose(file) }
        let input = FileHandle(fileDescriptor: fileno(file), closeOnDealloc: false)
        do {
            try input.write(contentsOf: Data(message.utf8))
            try input.seek(toOffset: 0)
        } catch {
            throw Messages.fail(
                "can't write the temporary file for the mail: \(error.localizedDescription)",
                ExitStatus.inputOutput)
        }
        process.standardInput = input
        do {
            try process.run()
        } catch {
            throw Messages.fail(
                "\(path) can't be started, so the report was not sent: \(error.localizedDescription)",
                ExitStatus.unavailable)
        }
        process.waitUntilExit()
        let status = process.terminationStatus
        if process.terminationReason == .uncaughtSignal {
            throw Messages.fail(
                "\(path) was killed by signal \(status), so the report was not sent", ExitStatus.software)
        }
        guard status == 0 else {
            throw Messages.fail(
                "\(path) did not accept the report: exit status \(status)\(meaning(status))", status)
        }
    }

    /// The meaning of an exit status (sysexits.h).
    private static func meaning(_ status: Int32) -> String {
        switch status {
        case 64: ", wrong usage"
        case 65: ", the mail is malformed"
        case 67: ", a recipient is unknown"
        case 68: ", a host is unknown"
        case 69: ", the mail system is not available"
        case 75: ", temporary failure: try again later"
        case 77: ", not permitted"
        case 78: ", the mail system's configuration is faulty"
        default: ""
        }
    }
}
