import CMilter

/// A call of libmilter's in progress: the macros that the MTA has sent, and the reply that it is to give.
///
/// Valid for the call that it is passed to, on its thread.
public struct MilterContext: ~Copyable {
    let handle: OpaquePointer

    init(_ handle: OpaquePointer) { self.handle = handle }

    /// The value of a macro in the latest stage that has it; nil when the MTA hasn't sent it (`smfi_getsymval`).
    ///
    /// - Parameter name: the name with its braces, if it is longer than one letter: `i`, `{auth_authen}`.
    /// - Returns: bytes that belong to libmilter and are gone when the call is over; nothing is allocated.
    public func macro(_ name: StaticString) -> UnsafeBufferPointer<UInt8>? {
        guard name.hasPointerRepresentation else { return nil }
        return name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) { name in
            cmilter_macro(handle, name).map { UnsafeBufferPointer(cString: $0) }
        }
    }

    /// Runs what may wait, such as to hold a reply back: another thread serves the other connections meanwhile.
    ///
    /// Nothing else in a call may wait, for a few threads serve all connections.
    ///
    /// - Returns: false, and nothing was run, where a thousand calls wait already or no thread can be started.
    @discardableResult
    public func wait(_ body: () -> Void) -> Bool {
        Channel.of(handle)?.pointee.server._withUnsafeGuaranteedRef { $0.wait(body) } ?? false
    }
}
