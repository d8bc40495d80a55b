import Synchronization

/// Names that got a number once and keep it; numbers are never reused.
final class NameRegistry: Sendable {
    private struct State {
        var names: [String]
        var numbers: [String: Int]
    }

    private let state: Mutex<State>
    private let limit: Int

    /// - Parameters:
    ///   - first: the name of number 0, where everything lands that finds no place.
    ///   - limit: how many names there may be.
    init(first: String, limit: Int) {
        state = Mutex(State(names: [first], numbers: [first: 0]))
        self.limit = limit
    }

    func number(of name: String) -> Int {
        state.withLock { state in
            if let number = state.numbers[name] { return number }
            guard state.names.count < limit else { return 0 }
            state.numbers[name] = state.names.count
            state.names.append(name)
            return state.names.count - 1
        }
    }

    /// All names by number, as of now: the writer asks after it has taken the counters that refer to them.
    var names: [String] { state.withLock { $0.names } }
}
