import CLDAP
import Foundation

/// A way to follow a directory's changes, on one connection.
protocol DirectoryFollower: AnyObject {
    /// In words, for reports.
    static var name: String { get }
    static var method: DirectoryCursor.Method { get }

    var session: DirectorySession { get }
    /// What the next pull goes on from, encoded; another one after each pull that found changes.
    var cursor: Data? { get }

    /// - Parameters:
    ///   - cursor: where the last pull ended; nil to read everything.
    ///   - stays: whether the server shall tell of changes by itself.
    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, stays: Bool) throws(LDAPError)

    /// Reads what has changed since the cursor, or everything.
    func begin(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading

    /// Reads what has changed since the last pull on this connection, or everything.
    func goOn(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading

    /// Whether the server tells of entries that have gone.
    var tellsOfDeletions: Bool { get }
    /// Whether another pull may follow on this connection.
    var canGoOn: Bool { get }

    /// Takes in what the server has told by itself, without waiting; whether it is worth a pull.
    func takeNews() throws(LDAPError) -> Bool
}

extension DirectoryFollower {
    var tellsOfDeletions: Bool { true }
    var canGoOn: Bool { true }
}

extension LDAPError {
    /// Whether the server says that it doesn't do it this way, or not for this account, rather than that something is wrong.
    var isRefusalOfMethod: Bool {
        [
            LDAP_UNAVAILABLE_CRITICAL_EXTENSION, LDAP_UNWILLING_TO_PERFORM, LDAP_INSUFFICIENT_ACCESS,
            LDAP_PROTOCOL_ERROR,
            LDAP_OPERATIONS_ERROR, LDAP_NOT_SUPPORTED, LDAP_INAPPROPRIATE_MATCHING, LDAP_OTHER,
            LDAPError.syncRefreshRequired,
        ].contains(code)
    }
}
