import Foundation
import Glibc
import RecipientSync
import Synchronization
import System

/// Shows on a terminal how far a sync is: a line for each source that is being read, updated twice a second. Shows nothing if standard
/// error is no terminal.
final class SyncProgressDisplay: Sendable {
    private let synchronizer: Synchronizer
    /// How many lines are on the terminal; nil once the display has ended.
    private let lines = Mutex<Int?>(nil)

    init(_ synchronizer: Synchronizer) {
        self.synchronizer = synchronizer
        guard isatty(STDERR_FILENO) == 1 else { return }
        lines.withLock { $0 = 0 }
        NamedThread.start("progress", stackSize: 256 << 10) { [self] in
            // A quick sync needs no display.
            usleep(500_000)
            while draw() { usleep(500_000) }
        }
    }

    /// Removes the lines.
    func end() {
        lines.withLock { lines in
            if let count = lines { Self.write(Self.clearing(count)) }
            lines = nil
        }
    }

    /// Draws the lines anew; false once the display has ended.
    private func draw() -> Bool {
        lines.withLock { lines in
            guard let count = lines else { return false }
            let progress = synchronizer.progress
            let rows = progress.map { source in
                let seconds = max(0, Int(Date().timeIntervalSince(source.since)))
                let name = String(source.name.escapedForMessage.prefix(30))
                return
                    "\(name): \(source.entries) entries read in \(Words.duration(seconds: seconds)), \(Int(source.rate)) a second\n"
            }
            Self.write(Self.clearing(count) + rows.joined())
            lines = rows.count
            return true
        }
    }

    /// The control sequence that goes up to the first of the lines and clears the screen from there.
    private static func clearing(_ count: Int) -> String { count > 0 ? "\u{1B}[\(count)F\u{1B}[J" : "" }

    private static func write(_ text: String) {
        guard !text.isEmpty else { return }
        var text = text
        text.withUTF8 { bytes in _ = Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    }
}
