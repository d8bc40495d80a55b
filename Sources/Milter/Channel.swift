import CMilter
import Glibc
import Synchronization

/// One connection of an MTA: its socket, libmilter's context and the session that it is about.
///
/// It lies in memory of its own, at an address that doesn't change. One thread at a time serves it; only the deadline belongs to all.
struct Channel: ~Copyable {
    let descriptor: Int32
    /// Whether it is a TCP connection, whose arrivals the kernel may acknowledge late.
    let isTCP: Bool
    /// Whether it was made while there were as many as may be: its recipients are deferred.
    let isOverLimit: Bool
    /// `SMFICTX`
    let context: OpaquePointer
    let server: Unmanaged<MilterServer>
    let pool: Unmanaged<WorkerPool>?
    var session: Unmanaged<SessionBox>?
    /// What has come of a packet while no thread serves the connection; empty between packets.
    var partial = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    /// When a packet that has begun must be whole, in milliseconds of the steady clock; nil between packets.
    var packetDeadline: Int64?
    /// The stream of the thread that serves the connection; nil while none does.
    var stream: UnsafeMutablePointer<PacketStream>?
    /// When the connection is ended if nothing comes, in milliseconds of the steady clock.
    let deadline: Atomic<Int64>

    /// A channel in memory of its own; nil without memory. ``destroy(_:)`` ends it.
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

    /// Gives up everything but the descriptor, which stays its maker's.
    static func destroy(_ channel: UnsafeMutablePointer<Channel>) {
        cmilter_end(channel.pointee.context)
        channel.pointee.partial.deallocate()
        channel.pointee.session?.release()
        channel.deinitialize(count: 1)
        channel.deallocate()
    }

    /// The channel at an address that ``make(descriptor:isTCP:isOverLimit:server:pool:deadline:)`` gave to libmilter.
    static func at(_ address: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<Channel>? {
        address?.assumingMemoryBound(to: Channel.self)
    }

    /// The channel of a context in a call of libmilter's.
    static func of(_ context: OpaquePointer?) -> UnsafeMutablePointer<Channel>? {
        context.flatMap { at(cmilter_owner($0)) }
    }

    /// Keeps what has come of a packet until the rest of it comes.
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

/// The session of a channel, as libmilter's callbacks find it without counting a reference.
final class SessionBox {
    let session: any MilterSession

    init(_ session: any MilterSession) { self.session = session }
}

/// The session of a connection that is one too many: its recipients are deferred, whatever the MTA does without a filter.
final class OverloadedSession: MilterSession {
    func recipient(_ context: borrowing MilterContext, arguments: borrowing MilterArguments) -> MilterResponse {
        var text = "Too many connections to the recipient filter; try again later"
        return text.withUTF8 { context.refuse(code: "451", enhancedCode: "4.3.2", text: $0) }
    }
}
