import Glibc
public import Synchronization

/// A shared value that is replaced as a whole while other threads read it.
///
/// A reader has the value during one call only. So at most two values exist: the current one and, while ``publish(_:)``
/// runs, the previous one. Readers take no lock, never wait, and count no reference to the value. They count themselves
/// in ``ReaderCounters``, each thread in memory of its own.
public final class HotSwap<Value: AnyObject & Sendable> {
    /// The value and the counters of its readers, in memory of its own, so that a ``Reader`` needs no reference to this
    /// object.
    @usableFromInline struct Shared: ~Copyable {
        /// The value, with one reference; changed only while `publishing` is locked.
        @usableFromInline let value: Atomic<Unmanaged<Value>?>
        @usableFromInline let readers = ReaderCounters()

        init(_ value: Value?) { self.value = Atomic(value.map { Unmanaged.passRetained($0) }) }

        deinit { value.load(ordering: .acquiring)?.release() }
    }

    @usableFromInline let shared: UnsafeMutablePointer<Shared>
    private let publishing = Mutex(())

    /// A shared value; nil for none yet.
    public init(_ value: Value?) {
        shared = .allocate(capacity: 1)
        shared.initialize(to: Shared(value))
    }

    deinit {
        shared.deinitialize(count: 1)
        shared.deallocate()
    }

    /// Replaces the value. Readers that begin from now on get the new one.
    ///
    /// The call returns when no reader uses the old value any more, and frees that, unless other code holds a reference
    /// to it. Any thread may call it, but not within a reader's call, which it would wait for.
    public func publish(_ value: Value?) {
        let new = value.map { Unmanaged.passRetained($0) }
        let old = publishing.withLock { _ in
            // Sequentially consistent: see `ReaderCounters`.
            let old = shared.pointee.value.exchange(new, ordering: .sequentiallyConsistent)
            shared.pointee.readers.waitForReaders()
            return old
        }
        // Outside the lock, as freeing a value may take long.
        old?.release()
    }

    /// The current value, with a reference that keeps it alive beyond the next ``publish(_:)``; for slow paths.
    public var current: Value? { makeReader().withCurrent { $0 } }

    /// A reader for one session or thread.
    public func makeReader() -> Reader { Reader(self) }

    /// Gives access to the current value for the length of a call. Any thread may use a reader.
    public struct Reader {
        /// Keeps `shared` alive.
        @usableFromInline let source: HotSwap
        /// The value and counters of `source`.
        @usableFromInline let shared: UnsafeMutablePointer<Shared>

        @usableFromInline
        init(_ source: HotSwap) {
            self.source = source
            shared = source.shared
        }

        /// Calls the body with the current value, which is valid during the call only; nil if there is none.
        ///
        /// ``HotSwap/publish(_:)`` waits for the body, so the body must not wait.
        @inlinable
        public func withCurrent<Result>(_ body: (Value?) throws -> Result) rethrows -> Result {
            let visit = shared.pointee.readers.enter()
            defer { visit.end() }
            guard let value = shared.pointee.value.load(ordering: .sequentiallyConsistent) else { return try body(nil) }
            return try value._withUnsafeGuaranteedRef { try body($0) }
        }

        /// Calls the body as ``withCurrent(_:)`` does; returns nil if there is no value. Counts no reference, which an
        /// optional would cause.
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

// The memory that it points to lives as long as its source.
extension HotSwap.Reader: @unchecked Sendable {}

/// Counts the readers at work, so that a writer can wait for those that began before it.
///
/// Readers never wait. A reader adds one to a counter, reads the shared value, and subtracts from the same counter at
/// the end. There are many counters, each in cache lines of its own, and a thread always uses the same one: a counter
/// that all threads shared would move its cache line between the processors at every call.
///
/// **Why a writer may free the old value.** The writer replaces the value, and then sees each counter at zero at least
/// once. A reader that got the old value read it before the replacement, and had added to its counter before that; all
/// these steps are sequentially consistent. So the writer finds that reader in the counter until the reader ends, and a
/// counter at zero has no reader of the old value left. It doesn't matter how long a reader pauses between two steps: a
/// reader that is interrupted before it adds to its counter reads the value later, and gets the new one.
///
/// **Why the writer's wait ends.** A counter that two threads use in turn may never be zero when the writer looks. So
/// there are two sets of counters, and readers use the set that `epoch` selects. The writer first waits for the unused
/// set: only readers that selected it before the last change of epoch are or will be in it, once each. Then the writer
/// changes the epoch and waits for the other set, which new readers no longer use. Both waits are needed: a reader that
/// was interrupted across an earlier change of epoch may have the old value and be counted in either set.
@usableFromInline
struct ReaderCounters: ~Copyable {
    private static var shardCount: Int { 64 }
    /// The distance, in counters, between those of two threads: two cache lines of 64 bytes, as processors fetch pairs.
    private static var stride: Int { 16 }

    /// The lowest bit selects the set that readers use; changed by a writer.
    private let epoch = Atomic<UInt>(0)
    /// The first two counters of each stride are used, one for each set.
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

    /// Begins a reader's call. The reader loads the value afterwards, sequentially consistent.
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

    /// Waits until every reader that began before the call has ended; must be called by one thread at a time.
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

    /// A reader's call in progress.
    @usableFromInline
    struct Visit {
        @usableFromInline let counter: UnsafeMutablePointer<Atomic<Int>>

        fileprivate init(counter: UnsafeMutablePointer<Atomic<Int>>) { self.counter = counter }

        /// Ends the call; must be called once.
        @inlinable
        func end() { counter.pointee.wrappingSubtract(1, ordering: .releasing) }
    }
}
