import Foundation
import Testing

extension Directories {
    @Suite(DirectoryRequirements.samba) struct KerberosRealmTests {
        @Test("a ticket authenticates the service account without a password, directly and through a proxy")
        func ticket() throws {
            var options = SambaOptions()
            options.hasKDC = true
            let samba = try SambaInstance(in: Workspace(), options)
            let realm = try KerberosRealm(of: samba)
            var client = realm.client()
            // No ticket yet: libldap's local error, -2.
            #expect(try client.search(base: SambaInstance.base, scope: "base").code == 254)
            try realm.obtainTicket()
            #expect(try client.search(base: SambaInstance.base, scope: "base").entries.count == 1)
            let proxy = try FaultProxy(to: 389, host: samba.address)
            client.uri = "ldap://127.0.0.1:\(proxy.port)"
            #expect(try client.search(base: SambaInstance.base, scope: "base").entries.count == 1)
            client.environment = realm.keytabEnvironment
            #expect(try client.search(base: SambaInstance.base, scope: "base").entries.count == 1)
            // With TLS, GSSAPI's own encryption is refused; from Samba 4.21 on a bind that isn't tied to the TLS
            // channel is.
            client.uri = samba.ldapsURI
            let code = try client.search(base: SambaInstance.base, scope: "base").code
            #expect(code == (SambaInstance.takesKerberosOverTLS ? 49 : 53))
        }
    }
}
