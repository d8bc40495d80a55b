import CMilter
import Glibc
public import System

/// The filter's side of an SMTP connection: receives the events of its envelopes, and answers each RCPT.
///
/// The server creates a session when the client connects, and drops it after ``close()``. It calls the session on any
/// of its threads, one call at a time. The MTA waits for ``recipient(_:arguments:)`` only. A call that traps ends the
/// process, and so every session.
public protocol MilterSession: AnyObject {
    /// The client has sent HELO or EHLO; it may do so more than once.
    ///
    /// - Parameter name: the client's name for itself; valid until the call returns.
    func helo(_ context: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>)

    /// The client has sent MAIL; the path of the arguments is the reverse-path.
    func mail(_ context: borrowing MilterContext, arguments: borrowing MilterArguments)

    /// The client has sent RCPT, and waits for the response; the path of the arguments is the recipient.
    ///
    /// An MTA that supports it also passes the recipients that it has rejected itself: the macro `{rcpt_mailer}` is
    /// then `error`, `{rcpt_host}` the enhanced status code and `{rcpt_addr}` the text of the reply. The response to
    /// such a recipient changes nothing.
    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse

    /// The message ends without being accepted: RSET, a new MAIL, or the end of the connection.
    func abort(_ context: borrowing MilterContext)

    /// The connection is over. This is the last call; it comes once, however the connection ended.
    func close()
}

extension MilterSession {
    /// Does nothing.
    public func helo(_ context: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>) {}

    /// Does nothing.
    public func mail(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) {}

    /// Does nothing.
    public func abort(_ context: borrowing MilterContext) {}

    /// Does nothing.
    public func close() {}
}

/// The SMTP client that has connected to the MTA.
public struct MilterConnection: Sendable {
    /// The client's name, which the MTA has looked up by the address; the address in brackets if it has none.
    public let hostname: String
    /// The client's address; nil for a local client, and if the MTA doesn't know the address.
    public let address: IPAddress?
    /// Whether the client is a process on the MTA's machine, connected by a unix socket.
    public let isLocal: Bool

    /// The client that libmilter's `xxfi_connect` describes.
    init(hostname: String, _ address: UnsafePointer<sockaddr>?) {
        self.hostname = hostname
        self.address = IPAddress(address)
        isLocal = address.map { Int32($0.pointee.sa_family) == AF_UNIX } ?? false
    }
}

/// The arguments of MAIL or RCPT: the path, then the ESMTP parameters.
///
/// libmilter owns the bytes; they are valid until the session's call returns.
public struct MilterArguments: ~Copyable {
    private let strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?

    init(_ strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
        self.strings = strings
    }

    /// The reverse-path or forward-path, mostly within `<>`; empty if the MTA sent no argument.
    public var path: UnsafeBufferPointer<UInt8> {
        guard let path = self[0] else { return UnsafeBufferPointer(start: nil, count: 0) }
        return path
    }

    /// The largest ``count``: no mail command has as many arguments, but a packet of garbage may hold 60,000.
    public static let maximumCount = 64

    /// The argument at a position, 0 being the path; nil past the last one.
    public subscript(position: Int) -> UnsafeBufferPointer<UInt8>? {
        guard position >= 0, position < count, let string = strings?[position] else { return nil }
        return UnsafeBufferPointer(cString: string)
    }

    /// The number of arguments, path included, counted up to ``maximumCount``.
    public var count: Int {
        guard let strings else { return 0 }
        var count = 0
        while count < Self.maximumCount && strings[count] != nil { count += 1 }
        return count
    }
}

/// The response to RCPT; libmilter's `SMFIS_` values.
///
/// For a reply with a text of its own, a session returns the result of
/// ``MilterContext/refuse(code:enhancedCode:text:)``.
public enum MilterResponse: Sendable, Equatable {
    /// Accept the recipient; other filters and the MTA may still reject it. `SMFIS_CONTINUE`.
    case `continue`
    /// Accept the whole message without asking this filter again. `SMFIS_ACCEPT`.
    case accept
    /// Reject the recipient with the reply set, or the MTA's own 5xx reply. `SMFIS_REJECT`.
    case reject
    /// Defer the recipient with the reply set, or the MTA's own 4xx reply. `SMFIS_TEMPFAIL`.
    case tempfail
    /// Accept the whole message and discard it silently. `SMFIS_DISCARD`.
    case discard
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a C string without its NUL.
    init(cString: UnsafePointer<CChar>) {
        let count = strlen(cString)
        self.init(start: UnsafeRawPointer(cString).assumingMemoryBound(to: UInt8.self), count: count)
    }
}
