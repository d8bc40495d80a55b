import Glibc
import Synchronization

/// The sockets of open connections, so that any thread can end what waits on them: a read in the middle of a TLS handshake, a bind
/// or a page returns at once.
final class OpenSockets: Sendable {
    private let descriptors = Mutex<Set<Int32>>([])

    /// Adds a socket. The caller asks afterwards whether to give up, as ``shutDown()`` may have come just before.
    func add(_ descriptor: Int32) { descriptors.withLock { _ = $0.insert(descriptor) } }

    /// Forgets a socket; before it is closed, as the number may then stand for another file.
    func remove(_ descriptor: Int32) { descriptors.withLock { _ = $0.remove(descriptor) } }

    /// Ends all of them for reading and writing, shutdown(2); they stay open.
    func shutDown() {
        descriptors.withLock { descriptors in
            for descriptor in descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }
}
