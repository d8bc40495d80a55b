import Foundation
import Logging
import System

/// Messages of the running filter on standard error: a line each with its time, or, where the journal reads it, with its
/// priority as sd-daemon(3) has it.
struct StandardErrorLog: LogHandler {
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()

    /// Whether standard error is a stream of the journal, which puts the time in front itself.
    private let isJournal: Bool

    private static var readsJournal: Bool { ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil }

    /// The logger of `postern`.
    static var logger: Logger {
        Logger(label: "postern") { _ in
            StandardErrorLog(isJournal: readsJournal)
        }
    }

    init(isJournal: Bool) { self.isJournal = isJournal }

    /// Has a thread write the messages from now on, so that nobody waits for their reader.
    static func startThread() {
        let handler = StandardErrorLog(isJournal: readsJournal)
        MessageStream.standardError.startThread { count in
            handler.lines(.error, "\(Words.count(count, "message")) could not be written to standard error")
        }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        MessageStream.standardError.write(lines(event.level, event.message.description))
    }

    /// A message with what stands in front of each of its lines.
    private func lines(_ level: Logger.Level, _ message: String) -> String {
        let front = isJournal ? "<\(Self.priority(level))>" : "\(Date().formatted(.iso8601)) \(level): "
        return message.split(separator: "\n").map { "\(front)\(String($0).escapedForMessage)\n" }.joined()
    }

    /// The priority of syslog(3).
    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}
