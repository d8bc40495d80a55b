/// The arguments of MAIL or RCPT, as libmilter passes them: the path first, then the ESMTP parameters.
///
/// The bytes belong to libmilter and are gone when the call is over: copy what is to be kept.
public struct MilterArguments: ~Copyable {
    private let strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?

    init(_ strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
        self.strings = strings
    }

    /// The reverse-path or forward-path, mostly within `<>`; empty when the MTA sent nothing at all.
    public var path: UnsafeBufferPointer<UInt8> {
        guard let path = self[0] else { return UnsafeBufferPointer(start: nil, count: 0) }
        return path
    }

    /// How many arguments are given at most: no mail command has as many, but a packet of garbage has room for 60,000.
    public static let maximumCount = 64

    /// The argument at a position, the path being 0; nil past the last one.
    public subscript(position: Int) -> UnsafeBufferPointer<UInt8>? {
        guard position >= 0, position < count, let string = strings?[position] else { return nil }
        return UnsafeBufferPointer(cString: string)
    }

    /// How many arguments there are, the path included, counted up to ``maximumCount``.
    public var count: Int {
        guard let strings else { return 0 }
        var count = 0
        while count < Self.maximumCount && strings[count] != nil { count += 1 }
        return count
    }
}
