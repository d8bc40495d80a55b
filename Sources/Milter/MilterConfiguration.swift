/// The socket, limits and timeouts of a ``MilterServer``, and the macros that it asks the MTA for.
public struct MilterConfiguration: Sendable {
    /// A stage of the SMTP dialogue at which the MTA sends macros.
    public enum Stage: Int32, Sendable, CaseIterable {
        /// The client has connected; `SMFIM_CONNECT`.
        case connect = 0
        /// HELO or EHLO; `SMFIM_HELO`.
        case helo = 1
        /// MAIL; `SMFIM_ENVFROM`.
        case mail = 2
        /// RCPT; `SMFIM_ENVRCPT`.
        case recipient = 3
    }

    /// The filter's name, which libmilter writes into its messages to syslog.
    public var name: String
    /// The socket that MTAs connect to.
    public var socket: MilterSocket
    /// The permissions of a unix socket, from its creation on; nil leaves them to the umask.
    public var socketMode: UInt32?
    /// How many connections the kernel queues until the server accepts them; nil for the system's maximum.
    public var backlog: Int32?
    /// The most connections at once. The recipients of further connections are deferred.
    public var maximumConnections: Int
    /// Milliseconds within which a new connection must send its first packet; an MTA sends it at once.
    public var firstPacketTimeout: Int64 = 30_000
    /// Milliseconds within which the rest of a packet must arrive.
    public var packetTimeout: Int64 = 10_000
    /// Milliseconds after which the server closes a silent connection.
    ///
    /// An SMTP client may pause for an hour between two commands: a shorter timeout loses sessions.
    public var idleTimeout: Int64 = 7_210_000
    /// The macros that the session needs at each stage, in braces if the name has more than one letter;
    /// `smfi_setsymlist`.
    ///
    /// An MTA that supports this request sends no others. For a stage without an entry, the MTA sends what it is
    /// configured to send.
    public var macros: [Stage: [String]]

    /// A configuration with the usual timeouts.
    public init(
        name: String, socket: MilterSocket, socketMode: UInt32? = nil, backlog: Int32? = nil,
        maximumConnections: Int = 10_000, macros: [Stage: [String]] = [:]
    ) {
        self.name = name
        self.socket = socket
        self.socketMode = socketMode
        self.backlog = backlog
        self.maximumConnections = maximumConnections
        self.macros = macros
    }
}

/// Why a filter can't start or go on, as one line for the administrator.
public struct MilterError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The class of a failure, which an exit status may depend on.
    public enum Kind: Sendable, Equatable {
        /// The text isn't the address of a socket.
        case invalidSocket
        /// Another process listens at the socket.
        case inUse
        /// The process isn't permitted to create or remove the socket.
        case notPermitted
        /// The socket can't be created: the folder is missing, a file is in the way, or the address isn't this
        /// machine's.
        case unusable
        /// The installed libmilter has a version that the server doesn't work with.
        case libmilter
    }

    /// The class of the failure.
    public let kind: Kind
    /// A sentence that begins with the subject, and says what happened and what is accepted.
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
