import Foundation
import Synchronization
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct SessionFuzzTests {
        /// With everything on that looks at an address.
        private func filter() throws -> LoneFilter {
            try LoneFilter {
                $0.values["relay.domains"] =
                    "[\"example.com\", \"example.org\", \"example.net\", \"bücher.example\"]"
                $0.values["recipients.batv"] = "true"
                $0.values["recipients.srs"] = "true"
                $0.values["recipients.delimiter"] = "\"+-\""
                $0.values["recipients.patterns"] = "[{ match = '^lst-[0-9]+@', action = \"accept\" }]"
                $0.values["harvest.limit"] = "1000000"
            }
        }

        private func residentMemory(_ filter: LoneFilter) throws -> Int {
            let status = try String(contentsOfFile: "/proc/\(filter.postern.pid)/status", encoding: .utf8)
            return try #require(status.firstMatch(of: /VmRSS:\s+(\d+)/).flatMap { Int($0.1) })
        }

        /// Whether a reply is one that an MTA can pass on: codes that agree, and one printable line, of ASCII or, for a client that
        /// has said SMTPUTF8, in UTF-8.
        private static func isSound(_ packet: MTAConnection.Packet) -> Bool {
            guard packet.command == "y" else { return "Ocrta".contains(packet.command) }
            guard packet.data.last == 0, !packet.data.dropLast().contains(where: { $0 < 0x20 || $0 == 0x7f }),
                String(validating: packet.data.dropLast(), as: UTF8.self) != nil
            else { return false }
            return packet.text.wholeMatch(of: /([45])\d\d ([45])\.\d{1,3}\.\d{1,3} .+/).map { $0.1 == $0.2 } == true
        }

        private func onslaught(_ socket: String, connections: Int, seed: UInt64) -> [String] {
            let faults = Mutex<[String]>([])
            onThreads(4) { thread in
                for index in 0..<(connections / 4) {
                    let caseSeed = seed &* 1_000_003 &+ UInt64(thread * connections + index)
                    var conversation = MutatedConversation(seed: caseSeed)
                    guard let connection = try? MTAConnection(path: socket) else {
                        faults.withLock { $0.append("case \(caseSeed): no connection") }
                        continue
                    }
                    let isPatient = conversation.isPatient()
                    connection.write(conversation.mutated())
                    if isPatient {
                        connection.finishSending()
                        while let packet = connection.receive() {
                            if !Self.isSound(packet) {
                                faults.withLock { $0.append("case \(caseSeed): \(packet.command) \(packet.data)") }
                            }
                        }
                    }
                    connection.hangUp()
                }
            }
            return faults.withLock { $0 }
        }

        @Test("randomly changed milter packets neither crash the filter, nor change its verdicts, nor leak memory")
        func mutatedConversations() throws {
            let filter = try filter()
            let control = try filter.connection()
            var before: Int?
            try Effort.forEachSeed { seed in
                for round in 0..<4 as Range<UInt64> {
                    let faults = onslaught(filter.socket, connections: 800, seed: seed &* 4 &+ round)
                    #expect(faults.isEmpty, "seed \(seed): \(faults.prefix(5))")
                    // An older connection and a new one still get the right verdicts.
                    for connection in [control, try filter.connection()] {
                        #expect(try connection.answer("anna@example.com") == "250")
                        #expect(try connection.answer("nobody@example.com") == "550")
                        #expect(try connection.answer("anna@example.info") == "554")
                    }
                    // The first rounds fill pools and tables.
                    if round == 1 && before == nil { before = try residentMemory(filter) }
                }
            }
            let after = try residentMemory(filter)
            let allowed = Effort.value("POSTERN_FUZZ_GROWTH", usually: 8_000)
            #expect(after - (before ?? 0) < allowed, "from \(before ?? 0) to \(after) KiB")
            #expect(filter.postern.stop() == .exited(0))
            #expect(!filter.postern.messages.contains("error:"), "\(filter.postern.messages)")
        }
    }
}
