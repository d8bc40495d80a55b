import TestSupport
import Testing

@testable import RecipientFilter

@Suite struct LatencyHistogramTests {
    @Test func eachTimeIsCountedInItsBucket() {
        let histogram = LatencyHistogram()
        for value: UInt64 in [0, 1_000, 1_001, 1_000_000_000, 1_000_000_001, .max] { histogram.record(value) }
        let counts = histogram.reading.counts
        #expect(counts.count == LatencyHistogram.bounds.count + 1)
        #expect(counts[0] == 2)
        #expect(counts[1] == 1)
        #expect(counts[counts.count - 2] == 1)
        #expect(counts[counts.count - 1] == 2)
    }

    @Test func concurrentThreadsLoseNoCount() {
        let histogram = LatencyHistogram()
        onThreads(8) { _ in for _ in 0..<10_000 { histogram.record(UInt64(3_000)) } }
        let reading = histogram.reading
        #expect(reading.counts.reduce(0, +) == 80_000)
        #expect(reading.counts[2] == 80_000)
        #expect(reading.sum == 240_000_000)
    }
}
