import Glibc

/// What systemd gives a service that it runs, and how the service tells systemd its state; sd_notify(3), systemd.exec(5).
///
/// Outside systemd, notifications go nowhere and there is no watchdog.
public enum ServiceManager {
    /// The state of a service that systemd acts on.
    public enum State: String, Sendable {
        /// The service works: units that come after it are started.
        case ready = "READY=1"
        /// The service has begun to end.
        case stopping = "STOPPING=1"
        /// The service still works. Without this message within ``watchdogTimeout``, systemd ends it and starts it anew.
        case alive = "WATCHDOG=1"
    }

    /// Sends the state to the socket that `NOTIFY_SOCKET` names. Never waits.
    ///
    /// - Returns: false if there is no such socket, or if it can't be reached.
    @discardableResult
    public static func notify(_ state: State) -> Bool {
        guard let name = variable("NOTIFY_SOCKET"), name.hasPrefix("/") || name.hasPrefix("@") else { return false }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(name.utf8)
        // The name of an abstract socket begins with NUL; unix(7).
        if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
        let isCopied = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard bytes.count < target.count else { return false }
            target.copyBytes(from: bytes)
            return true
        }
        guard isCopied else { return false }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        let length = MemoryLayout<sa_family_t>.size + bytes.count
        let sent = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { target in
                state.rawValue.utf8.withContiguousStorageIfAvailable { text in
                    sendto(
                        descriptor, text.baseAddress, text.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT),
                        target, socklen_t(length))
                } ?? -1
            }
        }
        return sent >= 0
    }

    /// The time within which systemd waits for ``State/alive``; nil if the unit has no `WatchdogSec=`, or one for another process.
    public static var watchdogTimeout: Duration? {
        guard let text = variable("WATCHDOG_USEC"), let microseconds = Int64(text), microseconds > 0 else { return nil }
        if let process = variable("WATCHDOG_PID"), process != String(getpid()) { return nil }
        return .microseconds(microseconds)
    }

    /// The folder with the credentials of the unit (`LoadCredential=`), which only the service can read; nil if there is none.
    public static var credentialsFolder: String? { variable("CREDENTIALS_DIRECTORY") }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        return value.pointee == 0 ? nil : String(cString: value)
    }
}
