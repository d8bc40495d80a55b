import MailAddress
import Testing

struct DomainNameTests {
    @Test(arguments: try Case.load("domains.cases"))
    func `a domain has the canonical form of the table`(_ expected: Case) {
        do throws(AddressError) {
            let name = try DomainName(String(decoding: expected.input, as: UTF8.self))
            #expect(expected.failure == nil)
            #expect(Array(name.aLabel.utf8) == expected.expected)
            #expect(name.description == name.aLabel)
        } catch {
            #expect(error.rule == expected.failure, "\(error)")
        }
    }

    @Test func `an empty text is not a domain`() {
        #expect(throws: AddressError.emptyDomain) { try DomainName("") }
    }
}
