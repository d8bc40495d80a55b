import Testing

@testable import RecipientIndex

@Suite struct XXHash64Tests {
    @Test func `gives the published vectors, wherever the input lies`() throws {
        for (line, fields) in try CaseFile("XXHash64", fields: 3).lines {
            let length = try #require(Int(fields[0]))
            let seed = try #require(UInt64(fields[1], radix: 16))
            let expected = try #require(UInt64(fields[2], radix: 16))
            var generator: UInt64 = 2_654_435_761
            let input = (0..<length).map { _ in
                defer { generator = generator &* 11_400_714_785_074_694_797 }
                return UInt8(generator >> 56)
            }
            for shift in 0..<8 {
                let bytes = [UInt8](repeating: 0xee, count: shift) + input
                let value = bytes.withUnsafeBytes {
                    XXHash64.hash(UnsafeRawBufferPointer(rebasing: $0[shift...]), seed: seed)
                }
                #expect(value == expected, "XXHash64.cases:\(line), \(shift) bytes from alignment")
            }
        }
    }
}
