import CMilter
import Glibc
import Synchronization
import System

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
        return text.withUTF8 { context.refuse(ReplyCodes(code: "451", enhancedCode: "4.3.2"), text: $0) }
    }
}

/// The buffers of a thread for the connection that it serves: packets from the MTA, and the replies to write.
///
/// A packet of the milter protocol is a 32-bit length in network order, a command byte and data; the length counts
/// command and data.
struct PacketStream: ~Copyable {
    /// The most bytes of data in a packet; libmilter's `MILTER_MAX_DATA_SIZE`.
    static let maximumDataLength = 65_535
    private static let headLength = 5
    private static let longestPacket = headLength + maximumDataLength
    private static let outputSize = 16 << 10

    /// A file that `poll(2)` always finds readable: the engine polls it before it asks for a packet.
    let readyDescriptor: Int32
    /// Whether the connection has ended, so that no more bytes will arrive.
    var isEnded = false
    /// Whether the engine has asked for a packet that hasn't arrived yet.
    ///
    /// The engine then returns as if the connection were over, and calls the callbacks for that, which ignore it. When
    /// the packet has arrived, the engine continues where it was.
    private(set) var isWaiting = false

    private let input: UnsafeMutableRawBufferPointer
    /// The bytes of `input` that the engine hasn't read yet.
    private var unread = 0..<0
    private let output: UnsafeMutableRawBufferPointer
    private var outputLength = 0
    /// Whether the replies didn't fit into `output`. No MTA causes that, as it waits for each reply.
    private var isOverrun = false

    /// A stream for one thread.
    ///
    /// - Parameter readyDescriptor: a file that `poll(2)` always finds readable; the caller closes it.
    init(readyDescriptor: Int32) {
        self.readyDescriptor = readyDescriptor
        input = .allocate(byteCount: Self.longestPacket + 4096, alignment: 16)
        output = .allocate(byteCount: Self.outputSize, alignment: 16)
    }

    deinit {
        input.deallocate()
        output.deallocate()
    }

    /// Begins to serve a connection, which has sent the beginning of a packet before.
    mutating func begin(with partial: UnsafeMutableRawBufferPointer) {
        isEnded = false
        isWaiting = false
        isOverrun = false
        outputLength = 0
        input.copyMemory(from: UnsafeRawBufferPointer(partial))
        unread = 0..<partial.count
    }

    /// Reads the bytes that have arrived, as far as there is room, without waiting; sets ``isEnded`` if the connection is
    /// closed or broken.
    ///
    /// - Returns: whether bytes were read.
    @discardableResult
    mutating func receive(from descriptor: Int32) -> Bool {
        while true {
            let count = recv(
                descriptor, input.baseAddress.map { $0 + unread.upperBound }, input.count - unread.upperBound,
                Int32(MSG_DONTWAIT))
            if count > 0 {
                unread = unread.lowerBound..<unread.upperBound + count
                return true
            }
            if count < 0 && errno == EINTR { continue }
            isEnded = count == 0 || errno != EAGAIN
            return false
        }
    }

    /// Whether the engine has work: a whole packet, a packet that is too long, or the end of the connection.
    var hasWork: Bool {
        guard let length = nextLength else { return isEnded }
        return length > Self.longestPacket || length <= unread.count || isEnded
    }

    /// The beginning of a packet that hasn't arrived whole.
    var partial: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: input[unread]) }

    /// The length of the next packet with its head; nil until the head has arrived.
    private var nextLength: Int? {
        guard unread.count >= Self.headLength, let start = input.baseAddress else { return nil }
        let length = UInt32(bigEndian: (start + unread.lowerBound).loadUnaligned(as: UInt32.self))
        // A packet without a command is read as if it had one, as libmilter does.
        return 4 + max(1, Int(length))
    }

    /// Stores the command of the next packet for `mi_engine` and returns its data, which libmilter frees; nil if the
    /// packet has no data or isn't complete.
    mutating func nextPacket(
        _ command: UnsafeMutablePointer<CChar>, _ dataLength: UnsafeMutablePointer<Int>
    ) -> UnsafeMutablePointer<CChar>? {
        dataLength.pointee = 0
        guard let length = nextLength, length <= unread.count, let start = input.baseAddress else {
            let isTooLong = nextLength.map { $0 > Self.longestPacket } ?? false
            command.pointee = CChar(isTooLong ? cmilter_packet_too_large : cmilter_end_of_input)
            isWaiting = !isTooLong && !isEnded
            return nil
        }
        let packet = start + unread.lowerBound
        unread = unread.lowerBound + length..<unread.upperBound
        let count = length - Self.headLength
        command.pointee = packet.load(fromByteOffset: 4, as: CChar.self)
        guard count > 0 else { return nil }
        // NUL-terminated, as the engine's search for the end of a string may run to the end of the data.
        guard let data = malloc(count + 1) else {
            command.pointee = CChar(cmilter_end_of_input)
            return nil
        }
        memcpy(data, packet + Self.headLength, count)
        data.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
        dataLength.pointee = count
        return data.assumingMemoryBound(to: CChar.self)
    }

    /// Adds a packet to the replies; false if there is no room.
    mutating func append(_ command: UInt8, _ data: UnsafeRawBufferPointer) -> Bool {
        guard data.count < output.count - Self.headLength - outputLength, let start = output.baseAddress else {
            isOverrun = true
            return false
        }
        let packet = start + outputLength
        packet.storeBytes(of: UInt32(truncatingIfNeeded: data.count + 1).bigEndian, as: UInt32.self)
        packet.storeBytes(of: command, toByteOffset: 4, as: UInt8.self)
        if let bytes = data.baseAddress { memcpy(packet + Self.headLength, bytes, data.count) }
        outputLength += Self.headLength + data.count
        return true
    }

    /// Writes the replies; false if the MTA doesn't accept them at once. An MTA waits for each reply, so its socket has
    /// room.
    mutating func flush(to descriptor: Int32) -> Bool {
        guard outputLength > 0 else { return !isOverrun }
        defer { outputLength = 0 }
        while true {
            let count = send(
                descriptor, output.baseAddress, outputLength, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            return count == outputLength && !isOverrun
        }
    }
}

// libmilter's engine calls these two functions instead of its own functions of the same names, which wait on the
// socket. The timeout is that of the context, see cmilter_begin(). The functions are public because an optimized build
// hides other names from libmilter.

/// The next packet for libmilter's engine, or a command that ends the engine's work if there is none; `mi_rd_cmd`.
@_cdecl("mi_rd_cmd")
public func readCommand(
    _: Int32, _ timeout: UnsafeRawPointer?, _ command: UnsafeMutablePointer<CChar>?,
    _ length: UnsafeMutablePointer<Int>?, _: UnsafeMutablePointer<CChar>?
) -> UnsafeMutablePointer<CChar>? {
    guard let command, let length else { return nil }
    guard let stream = stream(timeout) else {
        command.pointee = CChar(cmilter_end_of_input)
        return nil
    }
    return stream.pointee.nextPacket(command, length)
}

/// Adds a packet of libmilter's engine to the replies, which are written when the engine returns; `mi_wr_cmd`.
@_cdecl("mi_wr_cmd")
public func writeCommand(
    _: Int32, _ timeout: UnsafeRawPointer?, _ command: Int32, _ data: UnsafeMutablePointer<CChar>?,
    _ length: Int
) -> Int32 {
    guard let stream = stream(timeout) else { return MI_FAILURE }
    let bytes = UnsafeRawBufferPointer(start: data, count: data == nil ? 0 : length)
    return stream.pointee.append(UInt8(truncatingIfNeeded: command), bytes) ? MI_SUCCESS : MI_FAILURE
}

/// The stream of the thread that serves a connection.
private func stream(_ timeout: UnsafeRawPointer?) -> UnsafeMutablePointer<PacketStream>? {
    guard let timeout = timeout?.assumingMemoryBound(to: timeval.self) else { return nil }
    return Channel.at(UnsafeMutableRawPointer(bitPattern: timeout.pointee.tv_sec))?.pointee.stream
}
