public import Synchronization

/// A value that is replaced as a whole while readers go on: each keeps what it took until it asks again.
public final class HotSwap<Value: AnyObject & Sendable> {
    /// Counts the values that have been published; changes while `held` is locked. In memory of its own: a reader that went
    /// by way of the object would count a reference to it, which all sessions share.
    @usableFromInline let generation: UnsafeMutablePointer<Atomic<UInt64>>
    private let held: Mutex<Value?>

    /// Begins with this value, or with none.
    public init(_ value: Value?) {
        held = Mutex(value)
        generation = .allocate(capacity: 1)
        generation.initialize(to: Atomic(0))
    }

    deinit {
        generation.deinitialize(count: 1)
        generation.deallocate()
    }

    /// Replaces the value: who asks from now on gets this one.
    ///
    /// The old value lives until its last reader has asked again or is gone.
    public func publish(_ value: Value?) {
        // Let go of after the lock: it may take long to free.
        let old = held.withLock { held in
            let old = held
            held = value
            generation.pointee.wrappingAdd(1, ordering: .releasing)
            return old
        }
        withExtendedLifetime(old) {}
    }

    /// The value of now. It takes a lock and a reference: sessions use a ``Reader``.
    public var current: Value? { held.withLock { $0 } }

    /// A reader for one session.
    public func makeReader() -> Reader { Reader(self) }

    @usableFromInline
    func take() -> (value: Value?, generation: UInt64) {
        held.withLock { ($0, generation.pointee.load(ordering: .relaxed)) }
    }

    /// A session's own reference to the value. To use it costs one atomic load as long as nothing has been published, and
    /// neither lock nor reference count. One thread at a time may use it.
    public struct Reader {
        @usableFromInline let source: HotSwap
        /// The source's.
        @usableFromInline let newest: UnsafeMutablePointer<Atomic<UInt64>>
        /// Keeps the value alive.
        @usableFromInline var held: Value?
        /// The same without a count.
        @usableFromInline var borrowed: Unmanaged<Value>?
        @usableFromInline var generation: UInt64

        @usableFromInline
        init(_ source: HotSwap) {
            self.source = source
            newest = source.generation
            (held, generation) = source.take()
            borrowed = held.map { Unmanaged.passUnretained($0) }
        }

        /// Calls the body with the value of now, which is valid for the call only.
        @inlinable
        public mutating func withCurrent<Result>(_ body: (Value?) throws -> Result) rethrows -> Result {
            refresh()
            guard let borrowed else { return try body(nil) }
            return try borrowed._withUnsafeGuaranteedRef { try body($0) }
        }

        /// The same where there is a value; nil where there is none. No reference is counted: an optional would be.
        @inlinable
        public mutating func withSome<Result>(_ body: (Value) throws -> Result) rethrows -> Result? {
            refresh()
            guard let borrowed else { return nil }
            return try borrowed._withUnsafeGuaranteedRef { try body($0) }
        }

        /// The value of now with a reference of its own, for slow paths; see ``withCurrent(_:)``.
        @inlinable
        public var current: Value? {
            mutating get {
                refresh()
                return held
            }
        }

        @inlinable
        mutating func refresh() {
            if newest.pointee.load(ordering: .acquiring) != generation { replace() }
        }

        @usableFromInline
        @inline(never)
        mutating func replace() {
            (held, generation) = source.take()
            borrowed = held.map { Unmanaged.passUnretained($0) }
        }
    }
}

// The count is atomic, the value locked.
extension HotSwap: @unchecked Sendable {}

// The count lives as long as its source.
extension HotSwap.Reader: @unchecked Sendable {}
