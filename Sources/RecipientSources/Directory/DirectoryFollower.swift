import CLDAP
import Foundation

/// A way to follow a directory's changes over one connection.
protocol DirectoryFollower: AnyObject {
    /// The method's name in reports.
    static var name: String { get }
    /// The method's name in the cursor.
    static var method: DirectoryCursor.Method { get }

    var session: DirectorySession { get }
    /// The encoded cursor for the next reading; it differs from the last one after each reading that found changes.
    var cursor: Data? { get }

    /// - Parameters:
    ///   - cursor: where the last reading ended; nil to read everything.
    ///   - wantsReports: whether the server is asked to report changes by itself.
    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, wantsReports: Bool) throws(LDAPError)

    /// Reads the changes since the cursor, or everything.
    func readFirst(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading

    /// Reads the changes since the last reading over this connection, or everything.
    func readNext(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading

    /// Whether the server reports deletions.
    var reportsDeletions: Bool { get }
    /// Whether another reading may follow over this connection.
    var canReadNext: Bool { get }

    /// Receives the reports of changes that the server has sent by itself, without waiting; whether the source should
    /// be read now.
    func receiveReports() throws(LDAPError) -> Bool
}

extension DirectoryFollower {
    var reportsDeletions: Bool { true }
    var canReadNext: Bool { true }
}

extension LDAPError {
    /// Whether the server refuses this way to follow changes, or refuses it to this account; any other error is a
    /// failure.
    var isRefusalOfMethod: Bool {
        [
            LDAP_UNAVAILABLE_CRITICAL_EXTENSION, LDAP_UNWILLING_TO_PERFORM, LDAP_INSUFFICIENT_ACCESS,
            LDAP_PROTOCOL_ERROR,
            LDAP_OPERATIONS_ERROR, LDAP_NOT_SUPPORTED, LDAP_INAPPROPRIATE_MATCHING, LDAP_OTHER,
            LDAPError.syncRefreshRequired,
        ].contains(code)
    }
}

/// Where the next reading of a directory goes on; stored with the list.
struct DirectoryCursor: Codable, Equatable {
    /// How changes are followed.
    enum Method: String, Codable {
        /// They aren't: everything is read each time.
        case full
        /// RFC 4533: a cookie for each base.
        case sync
        /// DirSync: a cookie for each naming context.
        case dirSync
        /// uSNChanged of one domain controller: a number for each naming context.
        case usn
    }

    var method: Method
    /// The cookies or numbers, by base or naming context.
    var positions: [String: Data] = [:]
    /// For uSNChanged, the identity of the domain controller that gave the numbers; for DirSync, the account's limits.
    var server: String?
    /// When everything was last read.
    var reconciled: Date
    /// The search references of the list; nil from an older version, which didn't store them.
    var references: [String]?
    /// Grows with every reading, so that no two cursors are the same.
    var serial = 0

    init(_ method: Method, reconciled: Date) {
        self.method = method
        self.reconciled = reconciled
    }

    /// The cursor in the state; nil if there is none, or if another version wrote it.
    init?(_ data: Data?) {
        guard let data, let cursor = try? JSONDecoder().decode(Self.self, from: data) else { return nil }
        self = cursor
    }
}
