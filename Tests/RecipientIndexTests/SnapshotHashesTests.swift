import Testing

@testable import RecipientIndex

@Suite struct SipHashTests {
    @Test func `the published test vectors are met at any alignment`() throws {
        let cases = try CaseFile("SipHash", fields: 2)
        #expect(cases.lines.count == 64)
        let hash = SipHash(k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908)
        for (line, fields) in cases.lines {
            let length = try #require(Int(fields[0]))
            let expected = try #require(UInt64(fields[1], radix: 16)).byteSwapped
            for shift in 0..<8 {
                let bytes = [UInt8](repeating: 0xee, count: shift) + (0..<length).map { UInt8($0) }
                let value = bytes.withUnsafeBufferPointer { hash.hash(UnsafeBufferPointer(rebasing: $0[shift...])) }
                #expect(value == expected, "SipHash.cases:\(line), \(shift) bytes from alignment")
            }
        }
    }

    @Test func `a buffer without memory has the hash of no bytes`() {
        let hash = SipHash(k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908)
        #expect(hash.hash(UnsafeBufferPointer(start: nil, count: 0)) == 0x726f_db47_dd0e_0e31)
    }
}

@Suite struct XXHash64Tests {
    @Test func `the published test vectors are met at any alignment`() throws {
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
