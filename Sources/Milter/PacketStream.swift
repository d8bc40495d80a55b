import CMilter
import Glibc

/// The packets between one thread and the MTA that it serves at the moment: what has been read of them, and what is to be written.
///
/// A packet of the milter protocol is a 32-bit length in network order, a command and its data; the length counts the last two.
struct PacketStream: ~Copyable {
    /// What came of reading.
    enum Reading {
        /// Something was read.
        case some
        /// There is nothing to read at the moment.
        case nothing
        /// The MTA has closed the connection, or the connection is broken.
        case end
    }

    /// The most bytes of a packet's data: what libmilter takes (`MILTER_MAX_DATA_SIZE`).
    static let maximumDataLength = 65_535
    private static let headLength = 5
    private static let longestPacket = headLength + maximumDataLength
    private static let outputSize = 16 << 10

    /// A file that poll(2) always finds readable: the engine looks there before it asks for a packet.
    let readyDescriptor: Int32
    /// Whether nothing more will come.
    var isEnded = false
    /// Whether the engine has asked for a packet that isn't there yet. It then ends its work as if the connection were over, and calls the filter
    /// so; the callbacks pass that over, and the engine goes on where it was when the packet has come.
    private(set) var isWaiting = false

    private let input: UnsafeMutableRawBufferPointer
    /// The bytes that were read and not yet taken.
    private var unread = 0..<0
    private let output: UnsafeMutableRawBufferPointer
    private var outputLength = 0
    /// Whether the replies don't fit: an MTA waits for each reply, so one that leaves so many unread is none.
    private var isOverrun = false

    /// A stream for one thread.
    ///
    /// - Parameter readyDescriptor: a file that poll(2) always finds readable; it stays the caller's.
    init(readyDescriptor: Int32) {
        self.readyDescriptor = readyDescriptor
        input = .allocate(byteCount: Self.longestPacket + 4096, alignment: 16)
        output = .allocate(byteCount: Self.outputSize, alignment: 16)
    }

    deinit {
        input.deallocate()
        output.deallocate()
    }

    /// Begins with an MTA that has sent this much of a packet before.
    mutating func begin(with partial: UnsafeMutableRawBufferPointer) {
        isEnded = false
        isWaiting = false
        isOverrun = false
        outputLength = 0
        input.copyMemory(from: UnsafeRawBufferPointer(partial))
        unread = 0..<partial.count
    }

    /// Reads what there is, as far as there is room.
    mutating func receive(from descriptor: Int32) -> Reading {
        while true {
            let count = recv(
                descriptor, input.baseAddress.map { $0 + unread.upperBound }, input.count - unread.upperBound,
                Int32(MSG_DONTWAIT))
            if count > 0 {
                unread = unread.lowerBound..<unread.upperBound + count
                return .some
            }
            if count < 0 && errno == EINTR { continue }
            if count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) { return .nothing }
            isEnded = true
            return .end
        }
    }

    /// Whether the engine has something to do: a whole packet, one that is too long to wait for, or the end.
    var hasWork: Bool {
        guard let length = nextLength else { return isEnded }
        return length > Self.longestPacket || length <= unread.count || isEnded
    }

    /// What has come of a packet that isn't whole yet.
    var partial: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: input[unread]) }

    /// The length of the next packet with its head; nil while the head isn't there.
    private var nextLength: Int? {
        guard unread.count >= Self.headLength, let start = input.baseAddress else { return nil }
        let length = UInt32(bigEndian: (start + unread.lowerBound).loadUnaligned(as: UInt32.self))
        // One without a command is read as one with it, as libmilter does.
        return 4 + max(1, Int(length))
    }

    /// The next packet for `mi_engine`: its command, and its data in memory that libmilter frees; nil without data.
    mutating func take(
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
        // With a NUL behind it, which the engine's own look for the end of a string may come to.
        guard let data = malloc(count + 1) else {
            command.pointee = CChar(cmilter_end_of_input)
            return nil
        }
        memcpy(data, packet + Self.headLength, count)
        data.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
        dataLength.pointee = count
        return data.assumingMemoryBound(to: CChar.self)
    }

    /// Takes a packet that is to be written; false where there is no room for it.
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

    /// Writes what was appended; false where the MTA doesn't take it at once: it waits for each reply, so its socket has room.
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

// libmilter's engine calls these two in place of its own functions of the same names, which wait on the socket. The time-out is that of the
// context, see cmilter_begin(). They are public since an optimized build hides the names of others from libmilter.

/// `mi_rd_cmd`: the next packet, or the end of the engine's work where there is none.
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
    return stream.pointee.take(command, length)
}

/// `mi_wr_cmd`: takes a packet, which is written when the engine has ended its work.
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
