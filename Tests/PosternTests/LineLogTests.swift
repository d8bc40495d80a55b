import Logging
import Synchronization
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import postern

@Suite struct LineLogTests {
    /// A logger that keeps its lines.
    private final class Kept: Sendable {
        private let state = Mutex<[String]>([])
        var lines: [String] { state.withLock { $0 } }
        var logger: Logger { Logger(label: "test") { _ in Handler(kept: self) } }
        func add(_ line: String) { state.withLock { $0.append(line) } }

        private struct Handler: LogHandler {
            let kept: Kept
            var logLevel = Logger.Level.trace
            var metadata = Logger.Metadata()
            subscript(metadataKey key: String) -> Logger.Metadata.Value? {
                get { metadata[key] }
                set { metadata[key] = newValue }
            }
            func log(event: Logging.LogEvent) { kept.add(event.message.description) }
        }
    }

    /// A number of rejected recipients in one write.
    private func rows(_ count: Int, thinned: Int = 0) -> (ReceivedRows, DetailBuffer) {
        var buffer = DetailBuffer(capacity: 1 << 20)
        let recipient = Array("nobody@example.com".utf8)
        recipient.withUnsafeBufferPointer { recipient in
            for _ in 0..<count {
                let none = RecipientEvent.Bytes(start: nil, count: 0)
                _ = buffer.append(
                    RecipientEvent(
                        time: 1_795_392_000_000, outcome: .rejected, observed: false, reason: ReasonSlot(index: 1),
                        domain: .foreign, domainName: none, recipient: recipient, sender: none,
                        client: .unspecified, clientName: none, helo: none, queueID: none, authenticated: false,
                        mta: none, reply: none))
            }
        }
        return (
            ReceivedRows(buffers: [buffer], domains: [""], reasons: ["other", "unknown"], thinned: thinned), buffer
        )
    }

    @Test func aFloodGetsABurstOfLinesAndACountOfTheOthers() throws {
        let kept = Kept()
        let now = Mutex<Int64>(0)
        let log = LineLog(redact: false, kept.logger, clock: { now.withLock { $0 } })
        for _ in 0..<10 {
            let (rows, buffer) = rows(500, thinned: 7)
            log.enqueue(rows)
            buffer.deallocate()
        }
        log.start()
        log.stop()
        #expect(kept.lines.filter { $0.contains("reject: RCPT from") }.count == LineLog.burst)
        let omitted = "\(5_000 + 70 - LineLog.burst) more rejected or deferred recipients without a line"
        #expect(kept.lines.contains { $0.hasPrefix(omitted) })
    }

    @Test func `after a pause a whole burst of lines is written again`() throws {
        let kept = Kept()
        let now = Mutex<Int64>(0)
        let log = LineLog(redact: true, kept.logger, clock: { now.withLock { $0 } })
        log.start()
        for second in 0..<5 {
            now.withLock { $0 = Int64(second) * 100_000 }
            let (rows, buffer) = rows(LineLog.burst)
            // The queue is as long as a burst.
            while kept.lines.count < second * LineLog.burst { onThreads(1) { _ in } }
            log.enqueue(rows)
            buffer.deallocate()
        }
        log.stop()
        #expect(kept.lines.count == 5 * LineLog.burst)
        #expect(kept.lines.allSatisfy { $0.contains("to=<*@example.com>") })
    }
}
