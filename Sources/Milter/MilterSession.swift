import CMilter
import Glibc
public import System

/// One SMTP connection, as the MTA tells of it; made when it begins, given up after ``close()``.
///
/// libmilter's threads call, any of them, but never two at once for the same session. Only ``recipient(_:arguments:)``
/// keeps the MTA waiting; the other events are told to it without an answer. A call that traps ends every session.
public protocol MilterSession: AnyObject {
    /// The client has greeted with HELO or EHLO; it may do so again.
    ///
    /// - Parameter name: what the client calls itself; the bytes are gone when the call is over.
    func helo(_ context: borrowing MilterContext, name: UnsafeBufferPointer<UInt8>)

    /// A message begins; the path of the arguments is its sender.
    func mail(_ context: borrowing MilterContext, arguments: borrowing MilterArguments)

    /// A recipient is asked for; the path of the arguments is the recipient.
    ///
    /// With an MTA that can, recipients that it has refused itself come too: `{rcpt_mailer}` is then `error`,
    /// `{rcpt_host}` the enhanced code and `{rcpt_addr}` the reply's text. The answer to these changes nothing.
    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse

    /// The message that had begun ends without being taken.
    func abort(_ context: borrowing MilterContext)

    /// The connection is over, whichever way it ended; the last call, and the only one of its kind.
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

/// Who has connected to the MTA.
public struct MilterConnection: Sendable {
    /// The client's name as the MTA found it by its address; the address in brackets when it has none.
    public let hostname: String
    /// The client's address; nil for a local client, and when the MTA doesn't know the address.
    public let address: IPAddress?
    /// Whether the client is a process on the MTA's own machine, which is connected by a unix socket.
    public let isLocal: Bool

    /// The connection that libmilter's `xxfi_connect` describes.
    init(hostname: String, _ address: UnsafePointer<sockaddr>?) {
        self.hostname = hostname
        self.address = IPAddress(address)
        isLocal = address.map { Int32($0.pointee.sa_family) == AF_UNIX } ?? false
    }
}
