import Testing

@testable import postern

@Suite struct HostAndPortTests {
    @Test(arguments: [
        ("127.0.0.1:8892", true), ("127.8.9.1:80", true), ("localhost:1", true), ("LOCALHOST:1", true),
        ("[::1]:8892", true), ("0.0.0.0:8892", false), ("[::]:8892", false), ("192.0.2.1:1", false),
        ("127.0.0.1.example.com:1", false), ("127.example.com:1", false), ("gateway.example.com:8892", false),
    ])
    func loopbackAddressesAreRecognized(text: String, isLoopback: Bool) throws {
        let place = try #require(HostAndPort(text))
        #expect(place.isLoopback == isLoopback)
        #expect("\(place)" == text)
    }

    @Test(arguments: [
        "8892", "host", "host:", "host:0", "host:65536", "::1:8892", ":8892", "a b:1", "300.1.1.1:80", "1.2.3:80",
        "[::g]:80", "[1.2.3.4::]:80",
    ])
    func otherTextsAreRejected(text: String) {
        #expect(HostAndPort(text) == nil)
    }
}
