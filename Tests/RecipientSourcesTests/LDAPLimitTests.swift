import Foundation
import Glibc
import SyncTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A directory can't make a sync use unbounded memory.
@Suite struct LDAPLimitTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func run(_ server: SilentServer) throws -> SyncReport {
        let uri = try #require(LDAPURI("ldap://127.0.0.1:\(server.port)"))
        var directory = DirectoryConfiguration(.generic, servers: [uri])
        directory.timeout = 60
        var configuration = folder.configuration([])
        configuration.sources = [SourceConfiguration(name: "people", kind: .directory(directory))]
        return try Synchronizer(configuration).run()
    }

    /// An entry with an address and this attribute.
    private func answers(_ name: String, _ values: [[UInt8]]) -> [[UInt8]] {
        let entry = SilentServer.entry(2, "cn=a", [("mail", [Array("a@example.com".utf8)]), (name, values)])
        return [SilentServer.root(1), entry + SilentServer.success(2, 0x65)]
    }

    @Test func aLargeEntryIsRead() throws {
        let server = try SilentServer(answers("jpegPhoto", [[UInt8](repeating: 7, count: 15 << 20)]))
        defer { server.stop() }
        #expect(try run(server).added.addresses == ["a@example.com"])
    }

    @Test func aMessageBeyondTheLimitIsNotRead() throws {
        // The length announces 300 MB, which Postern must not try to receive.
        let size: [UInt8] = [0x30, 0x84, 0x11, 0xe1, 0xa3, 0x00]
        let server = try SilentServer([SilentServer.root(1), size + [UInt8](repeating: 4, count: 1 << 20)])
        defer { server.stop() }
        let error = syncError { try run(server) }
        #expect(error?.kind == .unreachable)
        let words = [
            "ldap://127.0.0.1:\(server.port): search: ", "more than 16 MiB, which is Postern's limit", "exclude_filter",
        ]
        for word in words { #expect(error?.description.contains(word) == true, "\(error?.description ?? "")") }
    }

    @Test func anEntryOfTooManyValuesIsAnError() throws {
        for count in [100_000, 100_001] {
            let server = try SilentServer(answers("description", [[UInt8]](repeating: [7], count: count - 1)))
            defer { server.stop() }
            let error = syncError { try run(server) }
            #expect((error == nil) == (count == 100_000), "\(error?.description ?? "")")
            if let error {
                #expect(error.description.contains("more than 100000 values, which is Postern's limit"), "\(error)")
            }
        }
    }

    @Test func `reading stops at a malformed BER element`() {
        let cases: [([UInt8], Int)] = [
            ([], 0), ([4], 0), ([4, 0], 1), ([4, 1], 0), ([4, 1, 7, 4, 0], 2), ([4, 0x81], 0), ([4, 0x81, 1, 7], 1),
            ([4, 0x85, 0, 0, 0, 0, 1, 7], 0), ([4, 0x84, 0xff, 0xff, 0xff, 0xff], 0), ([4, 0x80], 0),
        ]
        for (bytes, count) in cases {
            bytes.withUnsafeBufferPointer { bytes in
                var walker = BERWalker(bytes)
                var found = 0
                while walker.next() != nil { found += 1 }
                #expect(found == count, "\(Array(bytes))")
            }
        }
    }

    @Test func aFileWithoutCertificatesIsReportedBeforeAnythingIsSent() throws {
        let path = try folder.write("nothing.pem", "no certificate\n")
        #expect(CertificateDiagnosis.fault(ofAuthorities: path) == "has no certificate of an authority")
        #expect(CertificateDiagnosis.fault(ofAuthorities: folder("none"))?.contains("No such file") == true)
        let server = try SilentServer()
        defer { server.stop() }
        let uri = try #require(LDAPURI("ldaps://127.0.0.1:\(server.port)"))
        var options = LDAPOptions()
        options.caFile = path
        do throws(LDAPError) {
            _ = try LDAPConnection(uri, options, credentials: .anonymous) { () throws(SourceError) in }
            Issue.record("connected")
        } catch {
            #expect(error.operation == .tls)
            #expect(error.text == "ca_file \(path) has no certificate of an authority")
        }
        #expect(server.requests == 0)
    }

    @Test func allKerberosSourcesShareOneKeytab() throws {
        func configuration(_ keytabs: [String?]) throws -> SyncConfiguration {
            var configuration = folder.configuration([])
            configuration.sources = try keytabs.enumerated().map { number, keytab in
                var directory = DirectoryConfiguration(
                    .activeDirectory, servers: [try #require(LDAPURI("ldap://dc.example"))])
                directory.login = .gssapi(keytab: keytab)
                return SourceConfiguration(name: "s\(number)", kind: .directory(directory))
            }
            return configuration
        }
        #expect(DirectoryEnvironment.fault(in: try configuration([]).sources) == nil)
        #expect(DirectoryEnvironment.fault(in: try configuration(["/a", "/a"]).sources) == nil)
        let fault = DirectoryEnvironment.fault(in: try configuration(["/a", nil]).sources)
        #expect(fault?.contains("source \"s0\" has keytab = \"/a\" and source \"s1\" has none") == true)
        #expect(syncError { try Synchronizer(try configuration(["/a", "/b"])) }?.kind == .configuration)
        // This process was started without one.
        let error = syncError { try Synchronizer(try configuration(["/a"])) }
        #expect(error?.kind == .configuration)
        #expect(error?.description.hasSuffix("restart postern") == true, "\(error?.description ?? "")")
        #expect(throws: Never.self) { try Synchronizer(try configuration([nil])) }
    }
}
