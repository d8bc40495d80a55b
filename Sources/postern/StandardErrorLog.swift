import Foundation
import Logging

/// Messages of the running filter on standard error: a line each with its time, or, where the journal reads it, with its
/// priority as sd-daemon(3) has it.
struct StandardErrorLog: LogHandler {
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()

    /// Whether standard error is a stream of the journal, which puts the time in front itself.
    private let isJournal: Bool

    /// The logger of `postern`.
    static var logger: Logger {
        Logger(label: "postern") { _ in
            StandardErrorLog(isJournal: ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil)
        }
    }

    init(isJournal: Bool) { self.isJournal = isJournal }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let front =
            isJournal ? "<\(Self.priority(event.level))>" : "\(Date().formatted(.iso8601)) \(event.level): "
        let lines = event.message.description.split(separator: "\n").map { "\(front)\(String($0).escapedForMessage)\n" }
        FileHandle.standardError.write(Data(lines.joined().utf8))
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
