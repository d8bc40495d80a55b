import Foundation

/// The MTA's sendmail(1), for a mail that is ready.
enum Sendmail {
    static let defaultPath = "/usr/sbin/sendmail"

    /// Hands the message over; the recipients are those of its header. A failure ends the command with what sendmail says and
    /// its exit status.
    ///
    /// - Parameter sender: the envelope's sender; nil leaves it to sendmail.
    static func send(_ message: String, path: String, sender: String?) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        // No shell is between, so nothing has to be quoted.
        process.arguments = ["-t", "-i"] + (sender.map { ["-f", $0] } ?? [])
        // A file rather than a pipe: a sendmail that ends before it has read everything does no harm.
        guard let file = tmpfile() else {
            throw Messages.fail(
                "no temporary file for the mail: \(String(cString: strerror(errno)))", ExitStatus.cannotCreate)
        }
        defer { fclose(file) }
        let input = FileHandle(fileDescriptor: fileno(file), closeOnDealloc: false)
        do {
            try input.write(contentsOf: Data(message.utf8))
            try input.seek(toOffset: 0)
        } catch {
            throw Messages.fail(
                "the temporary file for the mail can't be written: \(error.localizedDescription)",
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
                "\(path) did not take the report: it ended with exit status \(status)\(meaning(status))", status)
        }
    }

    /// What a status of sysexits.h says.
    private static func meaning(_ status: Int32) -> String {
        switch status {
        case 64: ", wrong usage"
        case 65: ", the mail is malformed"
        case 67: ", a recipient is unknown"
        case 68: ", a host is unknown"
        case 69: ", the mail system is not available"
        case 75: ", not now: try again later"
        case 77: ", not permitted"
        case 78: ", the mail system's configuration is faulty"
        default: ""
        }
    }
}
