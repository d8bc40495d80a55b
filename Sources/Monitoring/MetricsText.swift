/// Metrics as text, in the dialect that the reader asks for.
package struct MetricsText {
    /// A text format of metrics.
    package enum Dialect: Sendable {
        /// OpenMetrics 1.0: a counter's family is named without its `_total`.
        case openMetrics
        /// OpenMetrics for readers that don't name a format. Counters have no type, so that their help has the name of the samples, where
        /// `promtool check metrics` looks for it.
        case neutral
        /// The older text format of Prometheus.
        case plain

        /// The dialect that the header `Accept` asks for.
        init(accepting header: String?) {
            let accepted = header?.lowercased() ?? ""
            if accepted.contains("application/openmetrics-text") {
                self = .openMetrics
            } else {
                self = accepted.contains("text/plain") ? .plain : .neutral
            }
        }

        /// The header `Content-Type`.
        var contentType: String {
            switch self {
            case .openMetrics, .neutral: "application/openmetrics-text; version=1.0.0; charset=utf-8"
            case .plain: "text/plain; version=0.0.4; charset=utf-8"
            }
        }
    }

    /// The labels of a sample, in order; values may hold any characters.
    typealias Labels = KeyValuePairs<String, String>

    /// No labels.
    static var none: Labels { [:] }

    private let dialect: Dialect
    private var lines: [String] = []

    /// No metrics yet.
    init(_ dialect: Dialect) { self.dialect = dialect }

    /// The whole text.
    var text: String { lines.joined(separator: "\n") + "\n# EOF\n" }

    /// Adds values that go up and down, unless there is no sample.
    mutating func gauge(_ name: String, help: String, _ samples: [(labels: Labels, value: Double)]) {
        guard !samples.isEmpty else { return }
        begin(name, type: "gauge", help: help)
        for sample in samples { add(name, sample.labels, value: sample.value) }
    }

    /// Adds a value that goes up and down, without labels, unless it is nil.
    mutating func gauge(_ name: String, help: String, _ value: Double?) {
        gauge(name, help: help, value.map { [(Labels(), $0)] } ?? [])
    }

    /// Adds counts that only grow, unless there is no sample.
    ///
    /// - Parameter name: without `_total`.
    mutating func counter(_ name: String, help: String, _ samples: [(labels: Labels, value: Double)]) {
        guard !samples.isEmpty else { return }
        switch dialect {
        case .openMetrics: begin(name, type: "counter", help: help)
        case .neutral: begin("\(name)_total", type: nil, help: help)
        case .plain: begin("\(name)_total", type: "counter", help: help)
        }
        for sample in samples { add("\(name)_total", sample.labels, value: sample.value) }
    }

    /// Adds a count that only grows, without labels.
    mutating func counter(_ name: String, help: String, _ value: Int) {
        counter(name, help: help, [(Labels(), Double(value))])
    }

    /// Adds the number of times that something happened, and the total time that it took.
    mutating func summary(
        _ name: String, help: String, _ samples: [(labels: Labels, count: Int, sum: Double)]
    ) {
        guard !samples.isEmpty else { return }
        begin(name, type: "summary", help: help)
        for sample in samples {
            add("\(name)_sum", sample.labels, value: sample.sum)
            add("\(name)_count", sample.labels, value: Double(sample.count))
        }
    }

    /// Adds a distribution.
    ///
    /// - Parameters:
    ///   - bounds: the upper ends of the buckets.
    ///   - counts: the number in each bucket, not cumulated, and the number above the last bound.
    mutating func histogram(_ name: String, help: String, bounds: [Double], counts: [Int], sum: Double) {
        begin(name, type: "histogram", help: help)
        var total = 0
        for (bound, count) in zip(bounds, counts) {
            total &+= count
            add("\(name)_bucket", ["le": Self.number(bound)], value: Double(total))
        }
        for count in counts.dropFirst(bounds.count) { total &+= count }
        add("\(name)_bucket", ["le": "+Inf"], value: Double(total))
        add("\(name)_sum", [:], value: sum)
        add("\(name)_count", [:], value: Double(total))
    }

    private mutating func begin(_ family: String, type: String?, help: String) {
        lines.append("# HELP \(family) \(Self.escaped(help, quotes: dialect != .plain))")
        if let type { lines.append("# TYPE \(family) \(type)") }
    }

    private mutating func add(_ name: String, _ labels: Labels, value: Double) {
        let set = labels.map { "\($0.key)=\"\(Self.escaped($0.value, quotes: true))\"" }.joined(separator: ",")
        lines.append("\(name)\(set.isEmpty ? "" : "{\(set)}") \(Self.number(value))")
    }

    /// A text with `\\`, `\n` and `\"` escaped. Other control characters become question marks.
    static func escaped(_ text: String, quotes: Bool) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            case _ where scalar.properties.generalCategory == .control: result += "?"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }

    static func number(_ value: Double) -> String {
        if let whole = Int(exactly: value), whole.magnitude < 1 << 53 { return "\(whole)" }
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return "\(value)"
    }
}
