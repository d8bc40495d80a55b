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

/// The arguments of MAIL or RCPT, as libmilter passes them: the path first, then the ESMTP parameters.
///
/// The bytes belong to libmilter and are gone when the call is over: copy what is to be kept.
public struct MilterArguments: ~Copyable {
    private let strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?

    init(_ strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
        self.strings = strings
    }

    /// The reverse-path or forward-path, mostly within `<>`; empty when the MTA sent nothing at all.
    public var path: UnsafeBufferPointer<UInt8> {
        guard let path = self[0] else { return UnsafeBufferPointer(start: nil, count: 0) }
        return path
    }

    /// How many arguments are given at most: no mail command has as many, but a packet of garbage has room for 60,000.
    public static let maximumCount = 64

    /// The argument at a position, the path being 0; nil past the last one.
    public subscript(position: Int) -> UnsafeBufferPointer<UInt8>? {
        guard position >= 0, position < count, let string = strings?[position] else { return nil }
        return UnsafeBufferPointer(cString: string)
    }

    /// How many arguments there are, the path included, counted up to ``maximumCount``.
    public var count: Int {
        guard let strings else { return 0 }
        var count = 0
        while count < Self.maximumCount && strings[count] != nil { count += 1 }
        return count
    }
}

/// What the MTA is told of a recipient (libmilter's `SMFIS_` values).
///
/// For a refusal with a text of its own return what ``MilterContext/refuse(code:enhancedCode:text:)`` returns.
public enum MilterResponse: Sendable, Equatable {
    /// Go on: the recipient is fine as far as this filter knows.
    case `continue`
    /// Take the whole message without asking this filter again.
    case accept
    /// Refuse for good, with the MTA's own 5xx reply or the one set.
    case reject
    /// Refuse for now, with the MTA's own 4xx reply or the one set.
    case tempfail
    /// Take the whole message and throw it away in silence.
    case discard
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a C string without its NUL.
    init(cString: UnsafePointer<CChar>) {
        let count = strlen(cString)
        self.init(start: UnsafeRawPointer(cString).assumingMemoryBound(to: UInt8.self), count: count)
    }
}
