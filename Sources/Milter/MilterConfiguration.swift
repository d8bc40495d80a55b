import Glibc

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
    /// Milliseconds after which the server closes a silent connection. An SMTP client may pause for an hour.
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

/// The address of the filter's socket: a unix socket's path, or a TCP port.
public struct MilterSocket: Sendable, Hashable, CustomStringConvertible {
    /// The address family of a TCP socket.
    public enum Family: Sendable, Hashable {
        case ipv4, ipv6
    }

    /// The kind and place of a socket.
    public enum Location: Sendable, Hashable {
        /// A unix socket at an absolute path.
        case unix(path: String)
        /// A TCP port; the host is an address or a name, nil for every address of the machine.
        case tcp(family: Family, host: String?, port: UInt16)
    }

    /// The longest path of a unix socket, in bytes: `sun_path` less the NUL and one spare byte.
    public static let maximumPathLength = 106

    /// The kind and place of the socket.
    public let location: Location

    /// The accepted forms, for messages.
    public static let acceptedForms = "unix:/path, local:/path, /path, inet:port@host or inet6:port@host"

    /// Reads one of the ``acceptedForms``. The host is a name or an address, which may be in brackets; without `@host`,
    /// the socket is at every address of the machine.
    public init(_ text: String) throws(MilterError) {
        func fault(_ reason: String) -> MilterError {
            MilterError(.invalidSocket, "socket \"\(text)\": \(reason); accepted: \(Self.acceptedForms)")
        }
        guard !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else {
            throw fault("the text contains a control character")
        }
        if text.hasPrefix("/") {
            location = .unix(path: try Self.checkedPath(text[...], fault))
            return
        }
        guard let colon = text.firstIndex(of: ":") else { throw fault("the type of socket is missing") }
        let rest = text[text.index(after: colon)...]
        switch text[..<colon].lowercased() {
        case "unix", "local": location = .unix(path: try Self.checkedPath(rest, fault))
        case "inet": location = try Self.tcp(.ipv4, rest, fault)
        case "inet6": location = try Self.tcp(.ipv6, rest, fault)
        default: throw fault("unknown type of socket \"\(text[..<colon])\"")
        }
    }

    private static func checkedPath(
        _ path: Substring, _ fault: (String) -> MilterError
    ) throws(MilterError) -> String {
        guard path.hasPrefix("/") else { throw fault("the path doesn't begin with a slash") }
        guard !path.hasSuffix("/") else { throw fault("the path ends with a slash, so it names a folder") }
        guard path.utf8.count <= maximumPathLength else {
            throw fault("the path has \(path.utf8.count) bytes; a unix socket's has at most \(maximumPathLength)")
        }
        return String(path)
    }

    private static func tcp(
        _ family: Family, _ text: Substring, _ fault: (String) -> MilterError
    ) throws(MilterError) -> Location {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let digits = parts.first, digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            let port = UInt16(digits), port > 0
        else { throw fault("the port must be a number from 1 to 65535") }
        guard parts.count == 2 else { return .tcp(family: family, host: nil, port: port) }
        var host = parts[1]
        if host.hasPrefix("[") {
            guard host.hasSuffix("]"), host.count > 2 else { throw fault("the host's closing bracket is missing") }
            host = host.dropFirst().dropLast()
        }
        guard !host.isEmpty else { throw fault("the host after @ is missing") }
        guard !host.contains(where: { "@[] ".contains($0) }) else { throw fault("\"\(host)\" is not a host") }
        if let reason = hostFault(String(host), family) { throw fault(reason) }
        return .tcp(family: family, host: String(host), port: port)
    }

    /// Why a host is neither an address of the family nor a name; nil if it is one of them.
    private static func hostFault(_ host: String, _ family: Family) -> String? {
        if host.contains(":") {
            guard family == .ipv6 else { return "the host \"\(host)\" has no IPv4 address; inet6: is for IPv6" }
            // A link-local address may name its interface.
            let address = host.prefix { $0 != "%" }
            var bytes = in6_addr()
            return inet_pton(AF_INET6, String(address), &bytes) == 1 && !host.hasSuffix("%")
                ? nil : "\"\(host)\" is not an IPv6 address"
        }
        if host.utf8.allSatisfy({ $0 == 0x2e || (0x30...0x39).contains($0) }) {
            var bytes = in_addr()
            guard inet_pton(AF_INET, host, &bytes) == 1 else { return "\"\(host)\" is not an IPv4 address" }
            return family == .ipv4 ? nil : "the host \"\(host)\" has no IPv6 address; inet: is for IPv4"
        }
        let labels = (host.hasSuffix(".") ? host.dropLast() : host[...]).split(
            separator: ".", omittingEmptySubsequences: false)
        let isName =
            host.utf8.count <= 253
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") }
            }
        return isName ? nil : "\"\(host)\" is neither an IP address nor a host name"
    }

    /// The socket of a server that is never opened.
    static let nowhere = MilterSocket(location: .unix(path: "/"))

    private init(location: Location) { self.location = location }

    /// The socket in the form of the configuration: `unix:/path`, `inet:port@host`.
    public var description: String {
        switch location {
        case .unix(let path): "unix:\(path)"
        case .tcp(let family, let host, let port):
            "\(family == .ipv4 ? "inet" : "inet6"):\(port)\(host.map { "@\($0)" } ?? "")"
        }
    }
}
