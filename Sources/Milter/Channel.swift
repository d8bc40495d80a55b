import CMilter
import Glibc
import Synchronization

/// A connection of an MTA: its socket, libmilter's context and the session.
///
/// A channel has memory of its own, at an address that doesn't change. One thread at a time serves it; only the
/// deadline is read by others.
struct Channel: ~Copyable {
    let descriptor: Int32
    /// Whether it is a TCP connection, for which the kernel may delay acknowledgements.
    let isTCP: Bool
    /// Whether there were already as many connections as configured: the recipients of this one are deferred.
    let isOverLimit: Bool
    /// libmilter's context, an `SMFICTX`.
    let context: OpaquePointer
    let server: Unmanaged<MilterServer>
    let pool: Unmanaged<WorkerPool>?
    var session: Unmanaged<SessionBox>?
    /// The beginning of a packet that hasn't arrived whole; empty between packets, and while a thread serves the
    /// connection.
    var partial = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    /// The time, of ``Clocks/monotonic``, by which the packet must have arrived whole; nil between packets.
    var packetDeadline: Int64?
    /// The stream of the thread that serves the connection; nil while none does.
    var stream: UnsafeMutablePointer<PacketStream>?
    /// The time, of ``Clocks/monotonic``, at which the server closes the connection if nothing has arrived.
    let deadline: Atomic<Int64>

    /// A new channel, to be ended by ``destroy(_:)``; nil if there is no memory.
    static func make(
        descriptor: Int32, isTCP: Bool, isOverLimit: Bool, server: MilterServer, pool: WorkerPool?, deadline: Int64
    ) -> UnsafeMutablePointer<Channel>? {
        let channel = UnsafeMutablePointer<Channel>.allocate(capacity: 1)
        guard let context = cmilter_begin(channel, server.filter) else {
            channel.deallocate()
            return nil
        }
        channel.initialize(
            to: Channel(
                descriptor: descriptor, isTCP: isTCP, isOverLimit: isOverLimit, context: context,
                server: Unmanaged.passUnretained(server), pool: pool.map { Unmanaged.passUnretained($0) }, session: nil,
                deadline: Atomic(deadline)))
        return channel
    }

    /// Frees the channel; the caller closes the descriptor.
    static func destroy(_ channel: UnsafeMutablePointer<Channel>) {
        cmilter_end(channel.pointee.context)
        channel.pointee.partial.deallocate()
        channel.pointee.session?.release()
        channel.deinitialize(count: 1)
        channel.deallocate()
    }

    /// The channel at an address, which must come from ``make(descriptor:isTCP:isOverLimit:server:pool:deadline:)``.
    static func at(_ address: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<Channel>? {
        address?.assumingMemoryBound(to: Channel.self)
    }

    /// The channel that a context of libmilter belongs to.
    static func of(_ context: OpaquePointer?) -> UnsafeMutablePointer<Channel>? {
        context.flatMap { at(cmilter_owner($0)) }
    }

    /// Keeps the beginning of a packet until the rest arrives.
    mutating func keep(_ bytes: UnsafeRawBufferPointer, deadline: @autoclosure () -> Int64) {
        partial.deallocate()
        guard bytes.count > 0 else {
            partial = UnsafeMutableRawBufferPointer(start: nil, count: 0)
            packetDeadline = nil
            return
        }
        partial = .allocate(byteCount: bytes.count, alignment: 1)
        partial.copyMemory(from: bytes)
        packetDeadline = packetDeadline ?? deadline()
    }
}

/// A session, in an object that libmilter's callbacks use without counting references.
final class SessionBox {
    let session: any MilterSession

    init(_ session: any MilterSession) { self.session = session }
}

/// The session of a connection over the limit: every recipient is deferred, whatever the MTA does without a filter.
final class OverloadedSession: MilterSession {
    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        var text = "Too many connections to the recipient filter; try again later"
        return text.withUTF8 { context.refuse(code: "451", enhancedCode: "4.3.2", text: $0) }
    }
}
