import Testing

@testable import MailAddress

struct RecipientAddressTests {
    @Test(arguments: try Case.load("paths.cases"))
    func `a path has the key of the table`(_ expected: Case) {
        #expect(ParsedPath(expected.input) == ParsedPath(expecting: expected), "\(expected.testDescription)")
    }

    @Test func `the table of paths is complete`() throws {
        let cases = try Case.load("paths.cases")
        #expect(cases.count >= 200)
        #expect(Set(cases.map(\.input)).count == cases.count, "a path stands there twice")
        let rules = Set(cases.compactMap(\.failure))
        #expect(rules.count == 18, "some rule of AddressError has no case: \(rules.sorted())")
    }

    @Test(arguments: try Case.load("paths.cases").filter { $0.failure == nil })
    func `the key consists of local part and domain`(_ accepted: Case) throws {
        let address = try accepted.input.withUnsafeBufferPointer { try RecipientAddress(path: $0) }
        #expect(address.key == String(decoding: accepted.expected, as: UTF8.self))
        #expect(address.key == (address.hasDomain ? "\(address.localPart)@\(address.domain)" : address.localPart))
        #expect(address.domain.isEmpty != address.hasDomain)
        #expect(!address.domain.contains("@"))
        #expect(address.isRouted == address.localPart.contains { "@%!".contains($0) })
        #expect(address.withLocalPart { Array($0) } == Array(address.localPart.utf8))
        #expect(address.withDomain { Array($0) } == Array(address.domain.utf8))
        #expect(try RecipientAddress(path: String(decoding: accepted.input, as: UTF8.self)) == address)
    }

    @Test func `equal keys are equal and have equal hashes`() throws {
        let plain = try RecipientAddress(path: "<john.doe@example.com>")
        let quoted = try RecipientAddress(path: "<@a:\"John.Doe\"@Example.com.>")
        let other = try RecipientAddress(path: "<john.dof@example.com>")
        let shorter = try RecipientAddress(path: "<john.doe@example.co>")
        #expect(plain == quoted)
        #expect(Set([plain, quoted, other, shorter]).count == 3)
        #expect("\(quoted)" == "john.doe@example.com")
    }

    @Test func `the U-label and the A-label of a domain give the same key`() throws {
        for (unicode, ascii) in [
            ("bücher.example", "xn--bcher-kva.example"), ("例子.测试", "xn--fsqu00a.xn--0zwm56d"),
            ("παράδειγμα.δοκιμή", "xn--hxajbheg2az3al.xn--jxalpdlp"),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"), ("مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"),
        ] {
            #expect(try RecipientAddress(path: "<a@\(unicode)>") == RecipientAddress(path: "<a@\(ascii)>"))
            #expect(try DomainName(unicode) == DomainName(ascii))
        }
    }

    @Test func `an address owns no heap memory`() {
        #expect(_isPOD(RecipientAddress.self))
        #expect(MemoryLayout<RecipientAddress>.size <= 520)
    }

    @Test func `the constant sets contain the documented characters`() {
        let letters = "abcdefghijklmnopqrstuvwxyz"
        #expect(
            RecipientAddress.plainLocal
                == ASCIISet(letters + letters.uppercased() + "0123456789.!#$%&'*+-/=?^_`{|}~"))
        #expect(UnquotedAddress.operators == ASCIISet(".@!%|:"))
        #expect(UnquotedAddress.specials == ASCIISet(".@!%|:()<>[],;\" \t"))
    }

    @Test func `every error names an accepted form`() {
        let errors: [AddressError] = [
            .empty, .unbalanced(0x22), .controlCharacter(7), .unexpectedCharacter(0x20), .adjacentWords,
            .textAfterPath, .invalidUTF8, .emptyLocalPart, .emptyDomain, .emptyLabel, .misplacedHyphen,
            .numericDomain, .domainCharacter(0xFF), .addressLiteral, .internationalizedDomain(-304),
            .labelTooLong, .domainTooLong, .pathTooLong,
        ]
        #expect(Set(errors.map(\.rule)).count == 18)
        #expect(Set(errors.map(\.description)).count == 18)
        for error in errors { #expect(error.description.contains("; accepted: "), "\(error)") }
        #expect(AddressError.controlCharacter(7).description.contains("0x07"))
        #expect(AddressError.unexpectedCharacter(0x2C).description.contains("\",\""))
    }
}
