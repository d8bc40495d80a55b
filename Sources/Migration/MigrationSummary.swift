import System

/// The text about a migration for standard error: what was found, what to change in the MTA, what differs from now, and
/// what a person must decide.
public struct MigrationSummary: Sendable {
    private let configuration: MigratedConfiguration
    /// The command that makes the change, such as `postern migrate postfix --apply`; nil if it is made already.
    private let applyCommand: String?

    /// - Parameter applyCommand: the command that changes the MTA's configuration; nil not to name one.
    public init(_ configuration: MigratedConfiguration, applyCommand: String?) {
        self.configuration = configuration
        self.applyCommand = applyCommand
    }

    /// The lines of the text.
    public var text: String {
        let sources = configuration.sources.filter { !$0.isCommentedOut }
        var lines = [
            "\(configuration.origin): \(Words.count(configuration.domains.count, "relay domain")), "
                + "\(Words.count(sources.count, "source")), \(Words.count(configuration.questions.count, "open question"))"
        ]
        if let change = configuration.change { lines += section(change) }
        if !configuration.preparations.isEmpty {
            lines += ["", "Before that, run:"] + configuration.preparations.map { "  \($0)" }
        }
        lines += section("Differs from now", configuration.differences.map { ("- ", $0) })
        lines += section(
            "Open questions, also at the top of the file",
            configuration.questions.enumerated().map { ("\($0.offset + 1). ", $0.element) })
        return lines.map { "\($0)\n" }.joined()
    }

    private func section(_ change: MTAChange) -> [String] {
        guard !change.lines.isEmpty else {
            return ["", "\(change.file) needs no change: it names Postern's socket already."]
        }
        var lines = ["", "Change in \(change.file), to let Postern observe:"]
        lines += change.lines.map { "  \($0)" }
        if change.canBeApplied, let applyCommand {
            lines.append("\"\(applyCommand)\" makes this change, with a backup.")
        }
        lines.append("Then run: \(change.reload)")
        if !change.later.isEmpty {
            lines += ["", "Later, with policy.mode = \"enforce\", when \"postern report\" shows no wrong rejection:"]
            lines += change.later.map { "  \($0)" }
        }
        return lines
    }

    private func section(_ title: String, _ items: [(start: String, text: String)]) -> [String] {
        guard !items.isEmpty else { return [] }
        return ["", "\(title):"]
            + items.flatMap { item in
                let indent = String(repeating: " ", count: item.start.count)
                return wrap(item.text, width: 96, indent: indent).enumerated().map {
                    "  \($0.offset == 0 ? item.start : "")\($0.element)"
                }
            }
    }
}
