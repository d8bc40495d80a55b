public import Synchronization

/// A value that is replaced as a whole while readers go on.
///
/// A reader has the value for the length of one call and keeps nothing afterwards, so the values that exist are the one in force and, while
/// ``publish(_:)`` runs, the one before it. Readers take no lock, never wait, and count no reference to the value; what they count is in
/// ``ReaderCounters``, each thread in memory of its own.
public final class HotSwap<Value: AnyObject & Sendable> {
    /// What readers use. In memory of its own, so that a ``Reader`` needs no reference to this object.
    @usableFromInline struct Shared: ~Copyable {
        /// Changes while `publishing` is locked, and holds one reference to the value.
        @usableFromInline let value: Atomic<Unmanaged<Value>?>
        @usableFromInline let readers = ReaderCounters()

        init(_ value: Value?) { self.value = Atomic(value.map { Unmanaged.passRetained($0) }) }

        deinit { value.load(ordering: .acquiring)?.release() }
    }

    @usableFromInline let shared: UnsafeMutablePointer<Shared>
    private let publishing = Mutex(())

    /// Begins with this value, or with none.
    public init(_ value: Value?) {
        shared = .allocate(capacity: 1)
        shared.initialize(to: Shared(value))
    }

    deinit {
        shared.deinitialize(count: 1)
        shared.deallocate()
    }

    /// Replaces the value: a reader that begins from now on gets this one.
    ///
    /// Returns when no reader uses the old value any more; the old value is freed then, unless somebody else holds a reference to it. Any
    /// thread may call it, but not from within a reader's call, which it would wait for.
    public func publish(_ value: Value?) {
        let new = value.map { Unmanaged.passRetained($0) }
        let old = publishing.withLock { _ in
            // Sequentially consistent: see `ReaderCounters`.
            let old = shared.pointee.value.exchange(new, ordering: .sequentiallyConsistent)
            shared.pointee.readers.waitForReaders()
            return old
        }
        // After the lock: to free a value may take long.
        old?.release()
    }

    /// The value of now with a reference of its own, which keeps it alive beyond the next ``publish(_:)``; for slow paths.
    public var current: Value? { makeReader().withCurrent { $0 } }

    /// The access of one session or thread.
    public func makeReader() -> Reader { Reader(self) }

    /// An access to the value that keeps no value between two calls. Any thread may use it.
    public struct Reader {
        /// Keeps `shared` alive.
        @usableFromInline let source: HotSwap
        /// The source's.
        @usableFromInline let shared: UnsafeMutablePointer<Shared>

        @usableFromInline
        init(_ source: HotSwap) {
            self.source = source
            shared = source.shared
        }

        /// Calls the body with the value of now, which is valid for the call only; nil while there is none.
        ///
        /// ``HotSwap/publish(_:)`` waits for the body, so it must not wait for anything itself.
        @inlinable
        public func withCurrent<Result>(_ body: (Value?) throws -> Result) rethrows -> Result {
            let visit = shared.pointee.readers.enter()
            defer { visit.end() }
            guard let value = shared.pointee.value.load(ordering: .sequentiallyConsistent) else { return try body(nil) }
            return try value._withUnsafeGuaranteedRef { try body($0) }
        }

        /// The same where there is a value; returns nil where there is none. No reference is counted: an optional would be.
        @inlinable
        public func withSome<Result>(_ body: (Value) throws -> Result) rethrows -> Result? {
            let visit = shared.pointee.readers.enter()
            defer { visit.end() }
            guard let value = shared.pointee.value.load(ordering: .sequentiallyConsistent) else { return nil }
            return try value._withUnsafeGuaranteedRef { try body($0) }
        }
    }
}

// The value is atomic, and replaced by one thread at a time.
extension HotSwap: @unchecked Sendable {}

// What it points to lives as long as its source, and is used as there.
extension HotSwap.Reader: @unchecked Sendable {}
