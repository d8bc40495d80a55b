import CMilter
import Glibc

/// Has the kernel acknowledge at once what Sendmail sends over TCP.
///
/// Sendmail writes each packet's header and its data one after the other, and its kernel holds the data back until the
/// header is acknowledged (Nagle's algorithm); the filter's kernel in turn delays an acknowledgement by 40 ms, in the hope of
/// data to send along, as soon as the connection looks like question and answer. So each recipient would take that long.
/// `TCP_QUICKACK` ends the delay until the next answer goes out, and has to be set between that answer and the end of the
/// delay, when no callback is due: so a thread waits for the arrival of data on all connections together with libmilter,
/// sets the option and touches nothing else.
final class PromptAcknowledger: Sendable {
    /// An epoll descriptor; a connection's socket leaves it when libmilter closes it.
    private let arrivals: Int32

    /// Starts the thread, which lives as long as the process; nil where the system refuses it. ``MilterSignals/prepare()``
    /// comes first.
    init?() {
        arrivals = epoll_create1(O_CLOEXEC)
        guard arrivals >= 0 else { return nil }
        var thread = pthread_t()
        let argument = UnsafeMutableRawPointer(bitPattern: UInt(arrivals) + 1)
        guard pthread_create(&thread, nil, acknowledgeArrivals, argument) == 0 else {
            Glibc.close(arrivals)
            return nil
        }
        pthread_detach(thread)
    }

    /// Begins with a connection that has just been made.
    func add(_ socket: Int32) {
        // From the next arrival on; what has come is acknowledged now. No TCP socket refuses the option.
        guard acknowledge(socket) else { return }
        var event = epoll_event()
        // Writable, as it always is: what arrives would not be told of once libmilter has read it, and is still to be
        // acknowledged then.
        event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLET.rawValue
        event.data.fd = socket
        epoll_ctl(arrivals, EPOLL_CTL_ADD, socket, &event)
    }

    /// Leaves the connection alone from now on.
    func remove(_ socket: Int32) { epoll_ctl(arrivals, EPOLL_CTL_DEL, socket, nil) }
}

/// The thread of a ``PromptAcknowledger``; its argument is one more than the epoll descriptor.
private func acknowledgeArrivals(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    let arrivals = Int32(truncatingIfNeeded: Int(bitPattern: argument) - 1)
    return withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
        while true {
            let count = epoll_wait(arrivals, events.baseAddress, Int32(events.count), -1)
            guard count > 0 else {
                if count < 0 && errno != EINTR { return nil }
                continue
            }
            // A socket that was closed meanwhile, its number another file's by now, is no harm: the option is for TCP only.
            for event in events[..<Int(count)] { _ = acknowledge(event.data.fd) }
        }
    }
}

/// Has what arrives at a TCP socket acknowledged at once until something is sent; false for any other descriptor.
private func acknowledge(_ socket: Int32) -> Bool {
    var yes: Int32 = 1
    return setsockopt(socket, Int32(IPPROTO_TCP), TCP_QUICKACK, &yes, socklen_t(MemoryLayout<Int32>.size)) == 0
}
