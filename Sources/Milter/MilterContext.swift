import CMilter

/// A call of libmilter's in progress: the macros that the MTA has sent, and the reply that it is to give.
///
/// Valid for the call that it is passed to, on its thread.
public struct MilterContext: ~Copyable {
    let handle: OpaquePointer
    /// Whether the macros may be read without `smfi_getsymval`; see `cmilter_macro`.
    let isLayoutKnown: Bool

    init(_ handle: OpaquePointer, isLayoutKnown: Bool) {
        self.handle = handle
        self.isLayoutKnown = isLayoutKnown
    }

    /// The value of a macro in the latest stage that has it; nil when the MTA hasn't sent it (`smfi_getsymval`).
    ///
    /// - Parameter name: the name with its braces, if it is longer than one letter: `i`, `{auth_authen}`.
    /// - Returns: bytes that belong to libmilter and are gone when the call is over; nothing is allocated.
    public func macro(_ name: StaticString) -> UnsafeBufferPointer<UInt8>? {
        guard name.hasPointerRepresentation else { return nil }
        return name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) { name in
            let value = isLayoutKnown ? cmilter_macro(handle, name) : cmilter_getsymval(handle, name)
            return value.map { UnsafeBufferPointer(cString: $0) }
        }
    }
}
