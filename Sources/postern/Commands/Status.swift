import ArgumentParser
import DirectorySync
import Foundation
import RecipientIndex

/// `postern status`: the filter, its index and its sync on one screen.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows the running filter, its index and its sync at a glance.",
        discussion: """
            Exit status: 0 when all is well; 1 when something needs a look, which is then named: no filter is running, there is no \
            sound index or it is too old, a source can't be read, or a guard has refused the last list.
            """)

    @OptionGroup var option: ConfigurationOption
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func run() throws {
        let status = StatusDocument(try option.load())
        switch format {
        case .json: try Results.write(try JSON.text(status))
        case .text: try Results.write(status.text)
        }
        if !status.troubles.isEmpty { throw ExitCode(1) }
    }
}

/// What `postern status` shows.
struct StatusDocument: Encodable {
    /// The running filter.
    struct Filter: Encodable {
        /// nil while none is running.
        var process: Int?
    }

    /// The published snapshot.
    struct Index: Encodable {
        var path: String
        var created: Date
        var generation: UInt64
        var recipients: Int
        var catchAllDomains: Int
        var relayDomains: Int
    }

    /// What needs a look, a sentence each.
    private(set) var troubles: [String] = []
    private(set) var filter = Filter()
    private(set) var index: Index?
    private(set) var sync: SyncStatus?

    init(_ configuration: Configuration) {
        readFilter(configuration)
        readIndex(configuration)
        guard !configuration.sync.sources.isEmpty else { return }
        sync = syncStatus(state: configuration.sync.state)
        if sync == nil { troubles.append("there is no sync state yet at \(configuration.sync.state)") }
        for (name, failure) in (sync?.failures ?? [:]).sorted(by: { $0.key < $1.key }) {
            troubles.append("source \(name) could not be read at \(Words.time(failure.at)): \(failure.text)")
        }
        if let refusal = sync?.refusal {
            troubles.append(
                "the list of \(Words.time(refusal.time)) was refused: "
                    + refusal.violations.prefix(3).map(\.text).joined(separator: "; "))
        }
    }

    private mutating func readFilter(_ configuration: Configuration) {
        do {
            filter.process = try ServiceFile.Visitor(database: configuration.log.database)?.process.map { Int($0) }
            if filter.process == nil { troubles.append("no filter is running") }
        } catch {
            troubles.append("whether a filter is running can't be told: \(error)")
        }
    }

    private mutating func readIndex(_ configuration: Configuration) {
        do {
            let info = try IndexSnapshot(path: configuration.index.path).info
            index = Index(
                path: configuration.index.path, created: info.created, generation: info.generation,
                recipients: info.recipients, catchAllDomains: info.catchAllDomains,
                relayDomains: info.sources.flatMap(\.relayDomains).count)
            let age = Date().timeIntervalSince(info.created)
            if configuration.index.maximumAge > 0, age > Double(configuration.index.maximumAge) {
                troubles.append(
                    "the index is \(Words.duration(seconds: Int(age))) old, more than index.max_age")
            }
        } catch {
            troubles.append("the index can't be used: \(error)")
        }
    }

    /// For a terminal of 80 columns, troubles first.
    var text: String {
        var lines = troubles.isEmpty ? ["all is well"] : troubles.map { "! \($0.escapedForMessage)" }
        lines.append("filter      \(filter.process.map { "process \($0)" } ?? "not running")")
        if let index {
            let age = Words.duration(seconds: max(0, Int(Date().timeIntervalSince(index.created))))
            lines.append(
                "index       \(Words.count(index.recipients, "recipient")), made \(age) ago, generation \(index.generation)"
            )
            if index.relayDomains > 0 {
                lines.append("            \(Words.count(index.relayDomains, "relay domain")) of its own")
            }
        }
        for source in sync?.sources ?? [] {
            let age = Words.duration(seconds: max(0, Int(Date().timeIntervalSince(source.asOf))))
            lines.append(
                "source      \(source.name.escapedForMessage) (\(source.type)): \(source.recipients) listed, right \(age) ago"
            )
            if let server = source.server {
                lines.append("            \(server)\(source.method.map { " by \($0)" } ?? "")")
            }
        }
        if let refusal = sync?.refusal {
            lines.append(
                "refused     \(refusal.removed) would go: \(refusal.first.joined(separator: ", ").escapedForMessage)")
            lines.append(
                refusal.acceptable
                    ? "            if that is meant: postern sync --accept-shrink"
                    : "            --accept-shrink doesn't overrule minimum and canaries")
        }
        return lines.joined(separator: "\n")
    }
}
