/// How a filter is reached and what it is told.
public struct MilterConfiguration: Sendable {
    /// A stage of the SMTP dialogue at which the MTA sends macros.
    public enum Stage: Int32, Sendable, CaseIterable {
        /// `SMFIM_CONNECT`
        case connect = 0
        /// `SMFIM_HELO`
        case helo = 1
        /// `SMFIM_ENVFROM`
        case mail = 2
        /// `SMFIM_ENVRCPT`
        case recipient = 3
    }

    /// The name in libmilter's own complaints, which go to syslog.
    public var name: String
    /// Where the MTA finds the filter.
    public var socket: MilterSocket
    /// The permissions of a unix socket, from the moment that it exists; nil leaves them to the umask.
    public var socketMode: UInt32?
    /// How many connections may wait to be taken; nil for as many as the system allows.
    public var backlog: Int32?
    /// The most connections; recipients of further ones are deferred.
    public var maximumConnections: Int
    /// Milliseconds within which the first packet of a connection must be there: an MTA sends it as soon as it has connected.
    public var firstPacketTimeout: Int64 = 30_000
    /// Milliseconds within which a packet that has begun must be whole.
    public var packetTimeout: Int64 = 10_000
    /// Milliseconds after which an MTA that says nothing is given up.
    ///
    /// An SMTP client may pause for an hour between two commands, so less than that loses sessions.
    public var idleTimeout: Int64 = 7_210_000
    /// The macros wanted at each stage, with braces where the name is longer than one letter (`smfi_setsymlist`).
    ///
    /// An MTA that can be told sends no others; a stage that isn't named gets what the MTA is configured to send.
    public var macros: [Stage: [String]]

    /// A filter at a socket, all else as usual.
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

/// Why a filter can't start or go on, in one line for the person who runs it.
public struct MilterError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What sort of failure it is, for an exit status.
    public enum Kind: Sendable, Equatable {
        /// The address of the socket isn't one that is accepted.
        case invalidSocket
        /// Another process answers at the socket.
        case inUse
        /// The process may not make or remove the socket there.
        case notPermitted
        /// The place is not usable: a missing folder, a file in the way, a host name or address that isn't here.
        case unusable
        /// libmilter is of a version that can't be used.
        case libmilter
    }

    /// What sort of failure it is.
    public let kind: Kind
    /// What failed, where, why, and what is accepted instead.
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
