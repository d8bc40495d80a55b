import Synchronization

/// One of several places to which the callers' threads spread: whoever finds a stripe busy takes the next.
struct Stripe: ~Copyable {
    /// What is under the lock; held for a few copies, or for the exchange of the two handles.
    struct State: Sendable {
        /// More different counters than this are kept by the hour and without the domain, so that they need little room however
        /// long the writer doesn't come.
        static let counterLimit = 16_384

        var details: DetailBuffer
        var counters: CounterTable
        /// How many recipients `counters` holds.
        var recipients = 0
        /// True while `counters` holds counts under another minute or domain than their own.
        var isCoarse = false
        /// Set by the writer while more detail rows come than it is to keep.
        var thins = false

        /// What became of a record.
        enum Admission {
            /// Counted, and its detail row queued if it has one.
            case done
            /// The same, and the writer should come before its time.
            case filling
            /// Nothing happened: the detail row doesn't fit.
            case full
        }

        /// Counts and queues, or neither; counts alone while details are thinned out.
        mutating func add(_ event: borrowing LogEvent, _ key: CounterKey) -> Admission {
            if event.outcome == .accepted {
                count(key)
                return .done
            }
            if thins {
                addThinned(key)
                return .done
            }
            guard details.append(event) else { return .full }
            count(key)
            return details.used &* 2 > details.capacity ? .filling : .done
        }

        /// Counts without a detail row, which is counted as thinned out.
        mutating func addThinned(_ key: CounterKey) {
            count(key)
            counters.add(.thinned(minute: counters.used < Self.counterLimit ? key.minute : key.ofItsHour.minute))
        }

        private mutating func count(_ key: CounterKey) {
            recipients &+= 1
            guard counters.used >= Self.counterLimit else { return counters.add(key) }
            // The writer hasn't come for long: its disk hangs.
            isCoarse = true
            counters.add(key.ofItsHour)
        }
    }

    let state: Mutex<State>
    // Keeps the locks of neighbours out of one cache line.
    private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)

    init(detailCapacity: Int, counterPlaces: Int) {
        state = Mutex(
            State(details: DetailBuffer(capacity: detailCapacity), counters: CounterTable(places: counterPlaces)))
    }

    deinit {
        state.withLock {
            $0.details.deallocate()
            $0.counters.deallocate()
        }
    }
}
