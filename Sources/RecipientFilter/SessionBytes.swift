/// Bytes that a session keeps from one call to another: a handle, whose owner calls ``deallocate()``.
struct HeldText {
    private(set) var bytes = UnsafeBufferPointer<UInt8>(start: nil, count: 0)

    /// No bytes.
    init() {}

    /// A copy of a text, cut off at a number of octets.
    init(_ text: String, limit: Int) {
        var text = text
        text.withUTF8 { replace(with: $0, limit: limit) }
    }

    /// A copy of bytes, cut off at a number of octets.
    init(_ bytes: UnsafeBufferPointer<UInt8>?, limit: Int) { replace(with: bytes, limit: limit) }

    func deallocate() { bytes.deallocate() }

    /// Takes over other bytes, cut off at a number of octets.
    mutating func replace(with other: UnsafeBufferPointer<UInt8>?, limit: Int) {
        bytes.deallocate()
        bytes = .none
        guard let other, !other.isEmpty, limit > 0 else { return }
        let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: min(other.count, limit))
        _ = copy.update(fromContentsOf: other.prefix(limit))
        bytes = UnsafeBufferPointer(copy)
    }
}
