import TestSupport
import Testing

@testable import MailAddress

/// Properties that hold for any input. The seeds are fixed, so a failure, which shows its seed, can be repeated.
@Suite struct RecipientAddressPropertyTests {
    /// The bytes with a meaning to the parser, which the inputs contain more often than others.
    private static let telling = Array("<>@.\"\\()[],;:%!| \t+-aAbZ019_xn--IPv6:\u{0}\u{7F}".utf8)

    private static func outcomeOfAny(_ path: [UInt8]) -> ParsedPath {
        path.withUnsafeBufferPointer { path in
            do throws(AddressError) {
                var address = RecipientAddress()
                try address.setAny(path)
                return ParsedPath(address)
            } catch {
                return .refused(error.rule)
            }
        }
    }

    /// A random path of pieces with a meaning to the parser.
    private static func path(_ generator: inout SeededGenerator) -> String {
        let locals = [
            "john", "John.Doe", "\"john doe\"", "\"a\\\"b\"", "a..b", ".x", "u%x", "h!u", "\"a@b\"", "jörg", "JÖRG",
            "\\j\\o", "a(c)", "x+y", "straße", "ΟΔΟΣ", "\"\"", "a:b", " a ", "\u{212A}", "e\u{301}", "İi", "ŉ", "ﬁ",
        ]
        let domains = [
            "example.com", "Example.COM.", "bücher.example", "BÜCHER.example", "[192.0.2.1]", "[IPv6:::1]", "a_b.c",
            "x..y", "-a", "1.2", "", "ex ample", "sub.example.org", "faß.example", "xn--bcher-kva.example",
        ]
        var text = locals[Int.random(in: locals.indices, using: &generator)]
        for _ in 0..<Int.random(in: 0...1, using: &generator) {
            text += "." + locals[Int.random(in: locals.indices, using: &generator)]
        }
        for _ in 0..<Int.random(in: 0...4, using: &generator) % 3 {
            text += "@" + domains[Int.random(in: domains.indices, using: &generator)]
        }
        if Int.random(in: 0..<5, using: &generator) == 0 { text = "@r.example,@s.example:" + text }
        return Bool.random(using: &generator) ? "<\(text)>" : text
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `any bytes are parsed without a crash`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        var path: [UInt8] = []
        for _ in 0..<100_000 {
            path.removeAll(keepingCapacity: true)
            let isWild = generator.next() & 7 == 0
            for _ in 0..<Int(generator.next() % 40) {
                let random = generator.next()
                path.append(
                    isWild ? UInt8(truncatingIfNeeded: random) : Self.telling[Int(random % UInt64(Self.telling.count))])
            }
            if case .key(let key, _, _) = ParsedPath(path) {
                accepted += 1
                #expect(!key.isEmpty && key.count <= 512, "seed \(seed), \(path)")
            }
        }
        #expect(accepted > 100, "the inputs reach too little, seed \(seed)")
    }

    @Test(arguments: [5, 6] as [UInt64])
    func `both parsers give the same result for randomly changed cases of the table`(seed: UInt64) throws {
        let cases = try Case.load("paths.cases").map(\.input)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<50_000 {
            var path = cases[Int.random(in: cases.indices, using: &generator)]
            for _ in 0..<Int.random(in: 1...3, using: &generator) where !path.isEmpty {
                let place = Int.random(in: path.indices, using: &generator)
                switch generator.next() % 3 {
                case 0: path.remove(at: place)
                case 1: path[place] = UInt8(truncatingIfNeeded: generator.next())
                default: path.insert(Self.telling[Int(generator.next() % UInt64(Self.telling.count))], at: place)
                }
            }
            // The fast and the general parser have the same grammar.
            #expect(ParsedPath(path) == Self.outcomeOfAny(path), "seed \(seed), \(path)")
        }
    }

    @Test func `the fast and the general parser agree on the table`() throws {
        for expected in try Case.load("paths.cases") {
            #expect(Self.outcomeOfAny(expected.input) == ParsedPath(expected.input), "\(expected.testDescription)")
        }
    }

    @Test(arguments: [7, 8] as [UInt64])
    func `the canonical form of a key is the key`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<20_000 {
            let text = Self.path(&generator)
            guard let address = try? RecipientAddress(path: text) else { continue }
            accepted += 1
            let again = try? RecipientAddress(path: address.key.quotedWhereNeeded)
            #expect(again == address, "seed \(seed), \(text): \(address.key)")
            #expect(again?.isRouted == address.isRouted, "seed \(seed), \(text)")
        }
        #expect(accepted > 2_000, "seed \(seed)")
    }

    @Test(arguments: [9, 10] as [UInt64])
    func `case makes no difference`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<20_000 {
            let text = Self.path(&generator)
            guard let address = try? RecipientAddress(path: text) else { continue }
            accepted += 1
            // ASCII only if the domain is UTF-8: ß has no capital, and UTS #46 keeps it apart from ss.
            let isUnicode = Bool.random(using: &generator) && !address.domain.contains("xn--")
            let capitals = String(
                String.UnicodeScalarView(
                    text.unicodeScalars.flatMap {
                        $0.isASCII || isUnicode ? Array($0.properties.uppercaseMapping.unicodeScalars) : [$0]
                    }))
            #expect(try RecipientAddress(path: capitals) == address, "seed \(seed), \(text), \(capitals)")
        }
        #expect(accepted > 2_000, "seed \(seed)")
    }

    @Test(arguments: [11] as [UInt64])
    func `quotes make no difference`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let atext = Array("abcXYZ019.!#$%&'*+-/=?^_`{|}~")
        for _ in 0..<20_000 {
            let local = String(
                (0..<Int.random(in: 1...20, using: &generator)).map { _ in
                    atext[Int.random(in: atext.indices, using: &generator)]
                })
            let plain = try RecipientAddress(path: "<\(local)@example.com>")
            let paired = local.map { "\\\($0)" }.joined()
            #expect(try RecipientAddress(path: "<\"\(local)\"@example.com>") == plain, "seed \(seed), \(local)")
            #expect(try RecipientAddress(path: "<\"\(paired)\"@example.com>") == plain, "seed \(seed), \(local)")
            #expect(try RecipientAddress(path: "<@a:\(paired)@Example.Com.>") == plain, "seed \(seed), \(local)")
            #expect(plain.isRouted == local.contains { "%!".contains($0) })
        }
    }

    @Test func `folding any character twice changes nothing`() {
        for value in (0xA0 as UInt32)...0x2FFFF {
            guard let scalar = UnicodeScalar(value) else { continue }
            let folded = String(Character(scalar)).foldedInNFC
            #expect(Array(folded.foldedInNFC.utf8) == Array(folded.utf8), "U+\(String(value, radix: 16))")
        }
    }
}
