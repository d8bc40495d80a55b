import Foundation
import Glibc

/// A private OpenLDAP server with entries for people.
final class Slapd {
    static let base = "dc=example,dc=com"
    static let bindDN = "cn=postern,ou=service,dc=example,dc=com"
    static let password = "pass-of-postern"
    private static let administrator = "cn=admin,dc=example,dc=com"
    private static let administratorPassword = "pass-of-admin"

    /// The number of people: `person0@example.com`, `person1@example.com`, …
    let count: Int
    let port: UInt16
    var uri: String { "ldap://127.0.0.1:\(port)" }
    private let child: Child

    init(people count: Int) throws {
        self.count = count
        port = try Ports.unused()
        let folder = try Scratch.folder("slapd", mode: 0o700)
        try FileManager.default.createDirectory(atPath: "\(folder)/data", withIntermediateDirectories: true)
        var program = "/usr/sbin/slapd"
        // An AppArmor profile depends on the program's path, and would deny access to this folder.
        if FileManager.default.fileExists(atPath: "/etc/apparmor.d/usr.sbin.slapd") {
            try FileManager.default.copyItem(atPath: program, toPath: "\(folder)/slapd")
            program = "\(folder)/slapd"
        }
        let configuration = try Scratch.write(Self.configuration(folder, count), to: "\(folder)/slapd.conf")

        Progress.say("  slapd with \(count) people")
        try Scratch.write(to: "\(folder)/first.ldif", count: count, head: Self.tree) { number in
            """
            dn: uid=person\(number),ou=people,dc=example,dc=com
            objectClass: inetOrgPerson
            uid: person\(number)
            cn: Person \(number)
            sn: \(number)
            mail: person\(number)@example.com


            """
        }
        try Child.run(program, ["-Tadd", "-q", "-f", configuration, "-l", "\(folder)/first.ldif"])
        unlink("\(folder)/first.ldif")
        child = try Child(
            program, ["-d", "0", "-h", "ldap://127.0.0.1:\(port)", "-f", configuration], error: "\(folder)/log",
            isDaemon: true)
        let port = port
        let child = child
        guard eventually(within: 60, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw Failure("slapd doesn't answer:\n\(Scratch.tail(of: "\(folder)/log"))")
        }
    }

    func stop() { child.end() }

    /// Reads the whole list with ldapsearch, by the search that Postern uses; the output is discarded.
    func search(_ attributes: [String]) throws -> Child.Ending {
        try Child.run(
            "/usr/bin/ldapsearch",
            [
                "-x", "-H", uri, "-D", Self.bindDN, "-w", Self.password, "-b", Self.base, "-LLL", "-E",
                "pr=1000/noprompt", "(|(mail=*)(mailLocalAddress=*)(mailAlternateAddress=*))",
            ] + attributes)
    }

    /// Adds an address to a person, or removes it; returns when that is done.
    func change(_ address: String, of person: Int, adds: Bool) throws {
        let ldif = """
            dn: uid=person\(person),ou=people,dc=example,dc=com
            changetype: modify
            \(adds ? "add" : "delete"): mail
            mail: \(address)

            """
        try Child.run(
            "/usr/bin/ldapmodify",
            ["-x", "-H", uri, "-D", Self.administrator, "-w", Self.administratorPassword],
            input: Scratch.write(ldif, to: Scratch.path("change.ldif")))
    }

    private static func configuration(_ folder: String, _ count: Int) -> String {
        """
        include /etc/ldap/schema/core.schema
        include /etc/ldap/schema/cosine.schema
        include /etc/ldap/schema/inetorgperson.schema
        include /etc/ldap/schema/misc.schema
        modulepath /usr/lib/ldap
        moduleload back_mdb
        moduleload syncprov
        pidfile \(folder)/pid
        database mdb
        suffix \(base)
        rootdn \(administrator)
        rootpw \(administratorPassword)
        directory \(folder)/data
        maxsize \(max(1 << 30, count * 4096))
        dbnosync
        index objectClass,entryUUID,entryCSN eq
        index mail pres,eq
        access to attrs=userPassword by anonymous auth by * none
        access to * by dn.exact="\(bindDN)" read by * none
        limits dn.exact="\(bindDN)" size=unlimited
        overlay syncprov
        syncprov-sessionlog 10000

        """
    }

    private static let tree = """
        dn: dc=example,dc=com
        objectClass: organization
        objectClass: dcObject
        o: Example
        dc: example

        dn: ou=people,dc=example,dc=com
        objectClass: organizationalUnit
        ou: people

        dn: ou=service,dc=example,dc=com
        objectClass: organizationalUnit
        ou: service

        dn: \(bindDN)
        objectClass: applicationProcess
        objectClass: simpleSecurityObject
        cn: postern
        userPassword: \(password)


        """
}
