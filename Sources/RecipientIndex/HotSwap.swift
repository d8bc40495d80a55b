import Glibc
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

/// Counts readers that are inside, so that a writer can wait for those who began before it.
///
/// Readers never wait. A reader adds one to a counter, reads the shared value, and subtracts from the same counter at the end. There are many
/// counters, each in cache lines of its own, and a thread always uses the same one: a counter that all threads shared would move its cache
/// line between the processors at every call.
///
/// **Why a writer may free the old value.** The writer replaces the value and then sees each counter at zero at least once. A reader
/// that got the old value did so before the replacement and had added to its counter before that; all these steps are sequentially
/// consistent. So the writer, which looks later, finds this reader's one in the counter until the reader has ended; a counter
/// at zero has no reader of the old value left. Nothing else is needed for that, and it doesn't matter how long a reader pauses
/// between two of its steps: one that has chosen its counter and is interrupted before it adds to it will read the value after that, and
/// gets the new one.
///
/// **Why the writer comes to an end.** A counter that two threads use in turn may never be at zero at the moment when the writer looks. So there
/// are two sets of counters, and readers use the one that `epoch` names. The writer first waits for the set not in use: only readers that chose
/// it before the last change of epoch may be in it or still come to it, once each. Then it changes the epoch and waits for the other
/// set, which new readers avoid now. Both waits are needed: a reader that was interrupted across an earlier change of epoch may have
/// the old value and be counted in either set.
@usableFromInline
struct ReaderCounters: ~Copyable {
    private static var shardCount: Int { 64 }
    /// Counters from one thread's to the next: two cache lines of 64 bytes, as processors fetch pairs.
    private static var stride: Int { 16 }

    /// Its lowest bit is the set that readers use; changed by a writer.
    private let epoch = Atomic<UInt>(0)
    /// Of each stride the first two are used, one of each set.
    private let counters: UnsafeMutablePointer<Atomic<Int>>

    init() {
        let count = Self.shardCount * Self.stride
        counters = UnsafeMutableRawPointer.allocate(byteCount: count * 8, alignment: Self.stride * 8)
            .bindMemory(to: Atomic<Int>.self, capacity: count)
        for place in 0..<count { (counters + place).initialize(to: Atomic(0)) }
    }

    deinit {
        counters.deinitialize(count: Self.shardCount * Self.stride)
        UnsafeMutableRawPointer(counters).deallocate()
    }

    /// Begins a reader's call; the value is to be loaded afterwards, sequentially consistent.
    @usableFromInline
    func enter() -> Visit {
        // The addresses of threads differ in middle bits; the multiplication brings these to the top.
        let thread = UInt64(truncatingIfNeeded: pthread_self()) &* 0x9e37_79b9_7f4a_7c15
        let shard = Int(truncatingIfNeeded: thread &>> 58)
        let set = Int(truncatingIfNeeded: epoch.load(ordering: .relaxed) & 1)
        let counter = counters + (shard &* Self.stride &+ set)
        counter.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
        return Visit(counter: counter)
    }

    /// Returns when every reader that began before the call has ended; one thread at a time.
    func waitForReaders() {
        let set = Int(truncatingIfNeeded: epoch.load(ordering: .relaxed) & 1)
        wait(set: 1 - set)
        epoch.wrappingAdd(1, ordering: .sequentiallyConsistent)
        wait(set: set)
    }

    private func wait(set: Int) {
        for shard in 0..<Self.shardCount {
            // A reader's call takes microseconds, unless its thread is interrupted.
            var pause: UInt32 = 20
            while counters[shard * Self.stride + set].load(ordering: .sequentiallyConsistent) != 0 {
                usleep(pause)
                pause = min(pause * 2, 1_000)
            }
        }
    }

    /// A reader's call that has begun.
    @usableFromInline
    struct Visit {
        @usableFromInline let counter: UnsafeMutablePointer<Atomic<Int>>

        fileprivate init(counter: UnsafeMutablePointer<Atomic<Int>>) { self.counter = counter }

        /// Ends it; to be called once.
        @inlinable
        func end() { counter.pointee.wrappingSubtract(1, ordering: .releasing) }
    }
}
