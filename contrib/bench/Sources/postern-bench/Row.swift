/// One line of the table.
struct Row: Codable {
    enum Unit: String, Codable {
        case seconds = "s"
        case mebibytes = "MiB"
        case percent = "%"
        case perSecond = "/s"
        case nanoseconds = "ns"
        case bytes = "B"
        case count = "times"
    }

    /// The measurements of one side.
    struct Figures: Codable {
        let median: Double
        let least: Double
        let most: Double
        /// In the order in which they were measured.
        let values: [Double]

        init?(_ values: [Double]) {
            guard let least = values.min(), let most = values.max() else { return nil }
            (self.least, self.most, self.values) = (least, most, values)
            let sorted = values.sorted()
            median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
        }
    }

    /// The goal of a row.
    enum Goal: Codable {
        /// Postern's value.
        case atMost(Double)
        case atLeast(Double)
        /// Postern's largest value.
        case largestAtMost(Double)
        /// Postern's value divided by the reference's.
        case ratioAtMost(Double)
        case ratioAtLeast(Double)
    }

    /// The section of the table.
    let section: String
    let name: String
    let unit: Unit
    let postern: Figures
    let reference: Figures?
    let goal: Goal?
    /// Postern's median divided by the reference's.
    let ratio: Double?
    /// Nil for a row without a goal, which explains another row or shows how a figure grows.
    let isMet: Bool?

    init(
        _ section: String, _ name: String, _ unit: Unit, _ postern: [Double], reference: [Double] = [],
        goal: Goal? = nil
    ) throws {
        guard let figures = Figures(postern) else { throw Failure("there are no measurements") }
        (self.section, self.name, self.unit, self.postern, self.goal) = (section, name, unit, figures, goal)
        self.reference = Figures(reference)
        let ratio = self.reference.map { figures.median / $0.median }
        self.ratio = ratio
        isMet =
            switch goal {
            case .atMost(let limit): figures.median <= limit
            case .atLeast(let limit): figures.median >= limit
            case .largestAtMost(let limit): figures.most <= limit
            case .ratioAtMost(let limit): ratio.map { $0 <= limit }
            case .ratioAtLeast(let limit): ratio.map { $0 >= limit }
            case nil: nil
            }
    }
}

/// The options of this run.
struct Plan {
    /// Paths of programs.
    let postern: String
    let noopFilter: String
    /// Postern's filter without a log.
    let unloggedFilter: String
    /// The folder into which Sendmail was unpacked.
    let sendmail: String
    /// How often each side is measured, in turns. A rate is measured several times in a round, for a short time each.
    var rounds = 5
    /// Whether to use small numbers, to try whether it works.
    var isQuick = false
    var rows: Set<String> = []

    func wants(_ row: String) -> Bool { rows.isEmpty || rows.contains(row) }

    /// The number itself, or the small one if ``isQuick`` is set.
    func scaled(_ count: Int, quick: Int) -> Int { isQuick ? quick : count }

    /// Measures two sides in turns; each goes first every other time. The first round only warms up, and is left out.
    ///
    /// - Parameters:
    ///   - times: the number of measurements in a round. Many short ones even out the slow periods of a virtual
    ///     machine.
    ///   - figure: the figure of a measurement to print as progress.
    func alternate<Measurement>(
        times: Int = 1, by figure: (Measurement) -> Double, _ postern: () throws -> Measurement,
        _ reference: () throws -> Measurement
    ) throws -> (postern: [Measurement], reference: [Measurement]) {
        var values: (postern: [Measurement], reference: [Measurement]) = ([], [])
        for round in 0...rounds * times {
            let ours: Measurement
            let theirs: Measurement
            if round.isMultiple(of: 2) {
                ours = try postern()
                theirs = try reference()
            } else {
                theirs = try reference()
                ours = try postern()
            }
            if round == 0 { continue }
            Progress.say("  \(round): \(Table.number(figure(ours))), reference \(Table.number(figure(theirs)))")
            values.postern.append(ours)
            values.reference.append(theirs)
        }
        return values
    }

    /// The same for measurements that are numbers.
    func alternate(
        times: Int = 1, _ postern: () throws -> Double, _ reference: () throws -> Double
    ) throws -> (postern: [Double], reference: [Double]) {
        try alternate(times: times, by: { $0 }, postern, reference)
    }
}
