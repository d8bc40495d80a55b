import LogTestSupport
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct DetailBufferTests {
    @Test func `a detail buffer gives back the records that were appended`() {
        var random = SeededGenerator.announced("DetailBuffer")
        for _ in 0..<200 {
            var buffer = DetailBuffer(capacity: Int.random(in: 60...20_000, using: &random))
            defer { buffer.deallocate() }
            var samples: [(Sample, Bool)] = []
            for _ in 0..<20 {
                func bytes(_ limit: Int) -> [UInt8] {
                    (0..<Int.random(in: 0...limit, using: &random)).map { _ in UInt8.random(in: 0...127, using: &random)
                    }
                }
                let sample = Sample(
                    time: Int64.random(in: Int64.min...Int64.max, using: &random),
                    outcome: Bool.random(using: &random) ? .rejected : .deferred,
                    observed: Bool.random(using: &random),
                    domainName: bytes(300), recipient: bytes(600), sender: bytes(600), clientName: bytes(300),
                    helo: bytes(300), session: bytes(70), mta: bytes(70), reply: bytes(600))
                let foreign = Bool.random(using: &random)
                let slot = foreign ? DomainSlot.foreign : DomainSlot(index: 7)
                let used = buffer.used
                if sample.with(reason: ReasonSlot(index: 3), domain: slot, { buffer.append($0) }) {
                    samples.append((sample, foreign))
                } else {
                    #expect(buffer.used == used)
                }
                #expect(buffer.used <= buffer.capacity)
            }
            var place = 0
            buffer.forEach { record in
                let (sample, foreign) = samples[place]
                place += 1
                #expect(record.time == sample.time && record.outcome == sample.outcome)
                #expect(record.observed == sample.observed && record.slot == (foreign ? 0 : 7) && record.reason == 3)
                #expect(Array(record.text(.recipient)) == Array(sample.recipient.prefix(512)))
                #expect(Array(record.text(.domainName)) == (foreign ? Array(sample.domainName.prefix(255)) : []))
                #expect(Array(record.text(.sender)) == Array(sample.sender.prefix(512)))
                #expect(Array(record.text(.clientName)) == Array(sample.clientName.prefix(255)))
                #expect(Array(record.text(.helo)) == Array(sample.helo.prefix(255)))
                #expect(Array(record.text(.queueID)) == Array(sample.session.prefix(64)))
                #expect(Array(record.text(.mta)) == Array(sample.mta.prefix(64)))
                #expect(Array(record.text(.reply)) == Array(sample.reply.prefix(512)))
            }
            #expect(place == samples.count)
        }
    }

    @Test func `a text over the limit is cut between two characters`() {
        var buffer = DetailBuffer(capacity: 8_192)
        defer { buffer.deallocate() }
        for shift in 0..<4 {
            var sample = Sample()
            sample.recipient = Array((String(repeating: "x", count: shift) + String(repeating: "😀", count: 200)).utf8)
            buffer.removeAll()
            #expect(sample.with(reason: .other, domain: .foreign) { buffer.append($0) })
            buffer.forEach { record in
                let text = record.text(.recipient)
                #expect(String(validating: text, as: UTF8.self) != nil)
                #expect(text.count > 508 && text.count <= 512)
            }
        }
        // A text of continuation bytes only is cut at the limit.
        var sample = Sample()
        sample.recipient = [UInt8](repeating: 0x80, count: 600)
        buffer.removeAll()
        #expect(sample.with(reason: .other, domain: .foreign) { buffer.append($0) })
        buffer.forEach { #expect($0.text(.recipient).count == 512) }
    }
}
