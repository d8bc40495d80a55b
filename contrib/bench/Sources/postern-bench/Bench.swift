import Foundation
import Glibc

/// `postern-bench`: measures Postern and comparable programs in turn. contrib/bench/run builds and
/// starts it.
///
/// Progress goes to standard error, the table to standard output. A row that can't be measured is reported and left
/// out, and the exit status is then 1. Missed goals don't change the status.
@main enum Bench {
    /// The names of the groups on the command line, with their measurements.
    static let groups: [(name: String, measure: @Sendable (Plan) throws -> [Row])] = [
        ("sync", { try SyncRows(plan: $0).times() }),
        ("change", { try ChangeRows(plan: $0).openLDAP(recipients: $0.scaled(100_000, quick: 5_000), idles: false) }),
        (
            "change-1m",
            { try ChangeRows(plan: $0).openLDAP(recipients: $0.scaled(1_000_000, quick: 10_000), idles: true) }
        ),
        ("change-ad", { try ChangeRows(plan: $0).activeDirectory(recipients: $0.scaled(100_000, quick: 5_000)) }),
        ("socket", { try FilterRows(plan: $0).socket() }),
        ("postfix", { try FilterRows(plan: $0).postfix() }),
        ("lookup", { try LookupRows(plan: $0).measure() }),
        ("sendmail", { try FilterRows(plan: $0).sendmail() }),
        ("scaling", { try ScalingRows(plan: $0).measure() }),
        ("flood", { try FloodRows(plan: $0).measure() }),
        ("memory", { try MemoryRows(plan: $0).measure() }),
        ("batch", { try FilterRows(plan: $0).batch() }),
    ]

    static func main() {
        let arguments = CommandLine.arguments
        if arguments.count == 4, arguments[1] == "--build-index", let count = Int(arguments[3]) {
            do { try Addresses.build(arguments[2], count) } catch { fatalError("\(error)") }
            return
        }
        endOnSignals()
        // For thousands of connections, in this process and its children.
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var status: Int32 = 0
        do {
            let options = try Options(CommandLine.arguments.dropFirst())
            try Scratch.make()
            var rows: [Row] = []
            var leftOut: [String: String] = [:]
            for group in groups where options.plan.wants(group.name) {
                if group.name == "change-ad", let obstacle = Samba.obstacle {
                    Progress.say("== \(group.name): left out: \(obstacle)")
                    leftOut[group.name] = obstacle
                    continue
                }
                Progress.say("== \(group.name)")
                do {
                    rows += try group.measure(options.plan)
                } catch {
                    Progress.say("\(group.name) can't be measured: \(error)")
                    leftOut[group.name] = "\(error)"
                    status = 1
                }
            }
            print(Table.text(rows.stablySorted()))
            if let path = options.json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
                try encoder.encode(Result(machine: .here, rounds: options.plan.rounds, rows: rows, leftOut: leftOut))
                    .write(to: URL(fileURLWithPath: path))
            }
        } catch {
            Progress.say("postern-bench: \(error)")
            status = 64
        }
        Child.endAll()
        Scratch.remove()
        exit(status)
    }

    /// Ends all child processes before a signal ends this process.
    private static func endOnSignals() {
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, number) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        let waited = signals
        Thread.detachNewThread {
            var signals = waited
            var number: Int32 = 0
            sigwait(&signals, &number)
            Child.endAll()
            Scratch.remove()
            _exit(128 + number)
        }
    }
}

/// The content of the JSON file.
private struct Result: Encodable {
    struct Machine: Encodable {
        let processors: Int
        let model: String
        let memory: UInt64
        /// The load averages at the end, over 1, 5 and 15 minutes.
        let load: String

        static var here: Machine {
            func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }
            let model = text("/proc/cpuinfo").split(separator: "\n").first { $0.hasPrefix("model name") }
            return Machine(
                processors: ProcessInfo.processInfo.activeProcessorCount,
                model: model?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "",
                memory: ProcessInfo.processInfo.physicalMemory,
                load: text("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " "))
        }
    }

    let machine: Machine
    let rounds: Int
    let rows: [Row]
    /// Groups that couldn't be measured, and why.
    let leftOut: [String: String]
}

extension [Row] {
    /// The rows by section, the sections in the order of their first rows.
    fileprivate func stablySorted() -> [Row] {
        var sections: [String] = []
        for row in self where !sections.contains(row.section) { sections.append(row.section) }
        return sections.flatMap { section in filter { $0.section == section } }
    }
}

/// The command line.
private struct Options {
    var plan: Plan
    var json: String?

    init(_ arguments: ArraySlice<String>) throws {
        var values: [String: String] = [:]
        var rows: Set<String> = []
        var isQuick = false
        var rest = Array(arguments)
        while !rest.isEmpty {
            let word = rest.removeFirst()
            switch word {
            case "--quick": isQuick = true
            case "--postern", "--noop-filter", "--unlogged-filter", "--sendmail", "--rounds", "--json":
                guard !rest.isEmpty else { throw Failure("\(word) needs a value") }
                values[word] = rest.removeFirst()
            default:
                guard Bench.groups.contains(where: { $0.name == word }) else {
                    throw Failure("\(word) is no row; there are: \(Bench.groups.map(\.name).joined(separator: " "))")
                }
                rows.insert(word)
            }
        }
        guard let postern = values["--postern"], let noopFilter = values["--noop-filter"],
            let unloggedFilter = values["--unlogged-filter"], let sendmail = values["--sendmail"]
        else {
            throw Failure("--postern, --noop-filter, --unlogged-filter and --sendmail are required: paths of programs")
        }
        plan = Plan(
            postern: postern, noopFilter: noopFilter, unloggedFilter: unloggedFilter, sendmail: sendmail)
        plan.rows = rows
        plan.isQuick = isQuick
        plan.rounds = isQuick ? 1 : 5
        if let text = values["--rounds"] {
            guard let rounds = Int(text), (1...100).contains(rounds) else {
                throw Failure("--rounds \(text): accepted: 1 to 100")
            }
            plan.rounds = rounds
        }
        json = values["--json"]
    }
}
