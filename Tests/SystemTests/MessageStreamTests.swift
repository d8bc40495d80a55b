import Foundation
import TestSupport
import Testing

@testable import System

@Suite struct MessageStreamTests {
    private func makePipe() -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    /// The text that can be read now.
    private func text(_ descriptor: Int32) -> String {
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        var bytes = [UInt8](repeating: 0, count: 1 << 22)
        let count = read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    }

    @Test func `messages that a full disk can't take are dropped and counted`() {
        let full = open("/dev/full", O_WRONLY)
        defer { close(full) }
        let stream = MessageStream(descriptor: full)
        for _ in 0..<3 { stream.write("message\n") }
        #expect(stream.dropped == 3)
        #expect(stream.failure?.reason == "messages: standard error can't be written: No space left on device")
    }

    @Test func `messages are dropped if the reader has gone`() {
        signal(SIGPIPE, SIG_IGN)
        let ends = makePipe()
        close(ends.reading)
        let stream = MessageStream(descriptor: ends.writing)
        stream.write("message\n")
        stream.startThread { "\($0) dropped\n" }
        stream.write("message\n")
        #expect(stream.flush(within: .seconds(30)))
        #expect(stream.dropped == 2)
        close(ends.writing)
    }

    @Test func `messages are dropped if the descriptor is closed`() {
        let stream = MessageStream(descriptor: 1_000_000)
        stream.write("message\n")
        #expect(stream.dropped == 1)
        #expect(stream.failure != nil)
    }

    @Test func `a reader that doesn't read delays no writer`() {
        let ends = makePipe()
        let stream = MessageStream(descriptor: ends.writing)
        stream.startThread { "\($0) dropped\n" }
        let line = String(repeating: "x", count: 999) + "\n"
        // The pipe takes 64 KiB, the thread 1 MiB, the queue another 1 MiB.
        for _ in 0..<6_000 { stream.write(line) }
        #expect(!stream.flush(within: .milliseconds(100)))
        let dropped = stream.dropped
        #expect(dropped > 3_000)
        // The reader reads again.
        var read = ""
        while !stream.flush(within: .milliseconds(10)) { read += text(ends.reading) }
        stream.write("the last\n")
        #expect(stream.flush(within: .seconds(30)))
        read += text(ends.reading)
        let lines = read.split(separator: "\n")
        #expect(lines.last == "the last")
        let notices = lines.filter { $0.hasSuffix(" dropped") }.compactMap {
            $0.split(separator: " ").first.flatMap { Int($0) }
        }
        #expect(notices.reduce(0, +) == stream.dropped)
        #expect(lines.count { $0.first == "x" } + stream.dropped >= 6_000)
        #expect(stream.failure == nil)
        close(ends.reading)
        close(ends.writing)
    }

    @Test func `messages keep their order`() {
        let ends = makePipe()
        let stream = MessageStream(descriptor: ends.writing)
        stream.write("0\n")
        stream.startThread { "\($0) dropped\n" }
        for number in 1..<100 { stream.write("\(number)\n") }
        #expect(stream.flush(within: .seconds(30)))
        #expect(text(ends.reading) == (0..<100).map { "\($0)\n" }.joined())
        #expect(stream.dropped == 0)
        close(ends.reading)
        close(ends.writing)
    }
}
