import Foundation
import MailAddress
import RecipientFilter
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

/// Random histories of a gateway, each step of which is held against a plain model: what every address that ever existed is answered.
///
/// `POSTERN_TEST_SEED=N` plays the histories from this seed on, `POSTERN_TEST_HISTORIES=N` plays so many.
@Suite struct HistoryTests {
    /// Seeds in which faults were found, kept.
    static let found: [UInt64] = []

    /// Each plays a part of the histories, side by side.
    private static let parts: UInt64 = 4
    /// The same histories each time, unless others are asked for.
    private static let first =
        ProcessInfo.processInfo.environment["POSTERN_TEST_SEED"].flatMap { UInt64($0) } ?? 817_271_479

    @Test(arguments: 0..<parts) func randomHistoriesOfSyncsMatchTheModel(part: UInt64) throws {
        let number = ProcessInfo.processInfo.environment["POSTERN_TEST_HISTORIES"].flatMap { UInt64($0) } ?? 2_000
        var totals: [String: Int] = [:]
        let seeds =
            (part == 0 ? Self.found : [])
            + stride(from: part, to: number, by: UInt64.Stride(Self.parts))
            .map { Self.first &+ $0 }
        for seed in seeds {
            let history = try History(seed: seed)
            guard try history.play(&totals) else { return }
        }
        // Histories in which nothing of this happens would prove nothing.
        for outcome in ["done", "refused", "killed", "unreachable", "malformed", "accepted", "leaving", "restarted"] {
            #expect(totals[outcome, default: 0] > seeds.count / 50, "\(outcome): \(totals)")
        }
        print("histories: \(totals.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))")
    }
}

/// One history: some sources of several kinds, and what happens to them.
private final class History {
    private struct Killed: Error {}

    private enum Kind: CaseIterable { case directory, list, postfix, sendmail, command }

    private let seed: UInt64
    private var random: SeededGenerator
    private let folder: TemporaryFolder
    private let clock = TestClock()
    private let kinds: [Kind]
    private let directories: [ScriptedSource?]
    private let configuration: SyncConfiguration
    private var synchronizer: Synchronizer
    private var model: HistoryModel
    private var everListed: Set<String> = []
    private var steps: [String] = []
    private let killer = Killer()

    /// Ends a sync at a step.
    private final class Killer: @unchecked Sendable {
        var step: Synchronizer.Step?
    }

    init(seed: UInt64) throws {
        self.seed = seed
        var random = SeededGenerator(seed: seed)
        let folder = try TemporaryFolder(isInMemory: true)
        self.folder = folder
        var kinds = (0..<Int.random(in: 1...3, using: &random)).map { _ in Kind.directory }
        for place in kinds.indices where Int.random(in: 0..<2, using: &random) == 0 {
            // Programs take long to start.
            let chosen = Kind.allCases.randomElement(using: &random) ?? .list
            kinds[place] = chosen == .command && Int.random(in: 0..<4, using: &random) > 0 ? .list : chosen
        }
        self.kinds = kinds
        var configuration = folder.configuration([])
        configuration.maxShrink = [0, 0.1, 0.3, 1].randomElement(using: &random) ?? 0.1
        configuration.grace = .seconds([0, 600].randomElement(using: &random) ?? 0)
        configuration.shrinkWindow = .seconds([3_600, 86_400].randomElement(using: &random) ?? 3_600)
        configuration.minimum = [1, 1, 3].randomElement(using: &random) ?? 1
        configuration.canaries = Int.random(in: 0..<4, using: &random) == 0 ? ["u0@example.com"] : []
        configuration.sources = kinds.enumerated().map { place, kind in
            let path = folder("table\(place)")
            let source: SourceConfiguration.Kind =
                switch kind {
                case .directory: .file(format: .list, path: folder("none"))
                case .list: .file(format: .list, path: path)
                case .postfix: .file(format: .postfix, path: path)
                case .sendmail: .file(format: .sendmail, path: path)
                case .command: .command(CommandConfiguration(command: ["/bin/cat", path], format: .list))
                }
            return SourceConfiguration(name: "s\(place)", kind: source)
        }
        self.configuration = configuration
        directories = kinds.enumerated().map { place, kind in
            kind == .directory ? ScriptedSource(configuration.sources[place]) : nil
        }
        model = HistoryModel(
            sources: kinds.count, maxShrink: configuration.maxShrink, grace: configuration.grace.milliseconds,
            window: configuration.shrinkWindow.milliseconds, minimum: configuration.minimum,
            canary: configuration.canaries.first, hasObjects: kinds.map { $0 == .directory })
        self.random = random
        synchronizer = try Self.synchronizer(configuration, directories, clock, killer)
    }

    private static func synchronizer(
        _ configuration: SyncConfiguration, _ directories: [ScriptedSource?], _ clock: TestClock, _ killer: Killer
    ) throws -> Synchronizer {
        let plain = try Synchronizer(configuration)
        let sources = plain.sources.enumerated().map { place, source in
            directories[place].map { $0 as any RecipientSource } ?? source.source
        }
        return try Synchronizer(configuration, sources: sources, clock: clock.clock) { step throws(SyncError) in
            if killer.step == step { throw SyncError(.cancelled, "killed at \(step)") }
        }
    }

    /// Plays the history.
    ///
    /// - Returns: whether all was right.
    func play(_ totals: inout [String: Int]) throws -> Bool {
        for place in kinds.indices {
            for _ in 0..<Int.random(in: 2...12, using: &random) { addObject(place) }
        }
        if !configuration.canaries.isEmpty { model.truth[0][99] = .init(addresses: ["u0@example.com"]) }
        for place in kinds.indices { try writeSource(place) }
        guard try sync(&totals) else { return false }
        for _ in 0..<Int.random(in: 3...9, using: &random) {
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<50: try mutate()
            case 50..<58: massDeletion()
            case 58..<66: fail(&totals)
            case 66..<80: passTime()
            case 80..<90:
                synchronizer = try Self.synchronizer(configuration, directories, clock, killer)
                totals["restarted", default: 0] += 1
                steps.append("restart")
            case 90..<93 where model.health.allSatisfy { $0 == .well }:
                try? FileManager.default.removeItem(atPath: configuration.indexPath)
                steps.append("the index is removed")
            default:
                for place in model.health.indices { model.health[place] = .well }
                steps.append("all well")
            }
            for place in kinds.indices { try writeSource(place) }
            guard try sync(&totals) else { return false }
            if model.isOpen { return true }
        }
        return true
    }

    // MARK: What happens

    private func address() -> String {
        "u\(Int.random(in: 0..<30, using: &random))@"
            + (Int.random(in: 0..<4, using: &random) == 0 ? "example.org" : "example.com")
    }

    private func flags(_ place: Int) -> RecipientFlags {
        guard kinds[place] == .directory else { return [] }
        return [[], [], [], [], .internalOnly, .disabled].randomElement(using: &random) ?? []
    }

    private func addObject(_ place: Int) {
        let number = Int.random(in: 0..<60, using: &random)
        let count = Int.random(in: 1...2, using: &random)
        model.truth[place][number] = .init(
            addresses: Set((0..<count).map { _ in address() }), flags: flags(place))
    }

    private func mutate() throws {
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            let place = Int.random(in: 0..<kinds.count, using: &random)
            let number = model.truth[place].keys.sorted().randomElement(using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: addObject(place)
            case 1:
                if let number { model.truth[place][number] = nil }
                steps.append("delete \(place).\(number ?? -1)")
            case 2:
                // A move to another source.
                let target = Int.random(in: 0..<kinds.count, using: &random)
                if let number, let object = model.truth[place].removeValue(forKey: number) {
                    model.truth[target][Int.random(in: 0..<60, using: &random)] = .init(
                        addresses: object.addresses, flags: kinds[target] == .directory ? object.flags : [])
                }
                steps.append("move \(place).\(number ?? -1) to \(target)")
            case 3:
                if let number { model.truth[place][number]?.addresses = [address()] }
                steps.append("rename \(place).\(number ?? -1)")
            default:
                if let number { model.truth[place][number]?.flags = flags(place) }
                steps.append("flags \(place).\(number ?? -1)")
            }
        }
    }

    private func massDeletion() {
        let place = Int.random(in: 0..<kinds.count, using: &random)
        let share = Int.random(in: 2...4, using: &random)
        for number in model.truth[place].keys.sorted() where Int.random(in: 0..<share, using: &random) > 0 {
            model.truth[place][number] = nil
        }
        steps.append("mass deletion in \(place)")
    }

    private func fail(_ totals: inout [String: Int]) {
        let place = Int.random(in: 0..<kinds.count, using: &random)
        let isTable = kinds[place] != .directory
        model.health[place] = isTable && Int.random(in: 0..<2, using: &random) == 0 ? .malformed : .unreachable
        steps.append("\(place) \(model.health[place])")
    }

    private func passTime() {
        let times: [Double] = [1, 300, 599, 600, 3_600, 90_000]
        let seconds = times.randomElement(using: &random) ?? 1
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            let leaps: [Double] = [-1_000_000, -3_600, 3_600, 100_000, 10_000_000]
            let leap = leaps.randomElement(using: &random) ?? 0
            clock.leap(leap)
            steps.append("leap \(leap)")
        case 1:
            clock.restart(after: seconds)
            steps.append("machine restarted after \(seconds)")
        default:
            clock.pass(seconds)
            steps.append("\(seconds) s pass")
        }
    }

    // MARK: The sources

    private func writeSource(_ place: Int) throws {
        let objects = model.truth[place]
        if let directory = directories[place] {
            directory.replace(objects)
            directory.fails(model.health[place] != .well, half: Int.random(in: 0..<2, using: &random) == 0)
            directory.pulls(by: ScriptedSource.Way.allCases.randomElement(using: &random) ?? .full)
            return
        }
        if model.health[place] == .unreachable {
            try? FileManager.default.removeItem(atPath: folder("table\(place)"))
            return
        }
        let value = kinds[place] == .list || kinds[place] == .command ? "" : " OK"
        var text = objects.keys.sorted().flatMap { number in
            (objects[number]?.addresses.sorted() ?? []).map { "\($0)\(value)\n" }
        }.joined()
        // Of a table that is cut off in the middle of its last line.
        if model.health[place] == .malformed { text += kinds[place] == .sendmail ? " x" : "\"cut off@" }
        if (try? String(contentsOfFile: folder("table\(place)"), encoding: .utf8)) != text {
            try folder.write("table\(place)", text)
            // As if nobody had written the file for a while: a file that became shorter isn't read before.
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -60)], ofItemAtPath: folder("table\(place)"))
        }
    }

    // MARK: Syncs

    private func sync(_ totals: inout [String: Int]) throws -> Bool {
        let steps: [Synchronizer.Step?] = [nil, nil, nil, nil, nil] + Synchronizer.Step.allCases
        killer.step = steps.randomElement(using: &random) ?? nil
        let isAccepting = Int.random(in: 0..<6, using: &random) == 0
        let isLate = killer.step == .committed || killer.step == .published
        // It may run twice.
        if isAccepting, isLate { killer.step = nil }
        for object in model.truth.flatMap(\.values) { everListed.formUnion(object.addresses) }
        let reading = clock.clock.read()
        let expected = model.sync(reading, accepting: isAccepting, killedAt: killer.step)
        self.steps.append(
            "sync\(isAccepting ? ", accepting" : "")\(killer.step.map { ", killed at \($0)" } ?? "") -> \(expected)")
        var outcome = HistoryModel.Outcome.done
        var message = ""
        do throws(SyncError) {
            _ = try synchronizer.run(SyncOptions(acceptsShrink: isAccepting))
        } catch {
            message = error.description
            switch error.kind {
            case .guardRefused: outcome = .refused
            case .unreachable: outcome = .unreachable
            case .malformed: outcome = .malformed
            case .cancelled: outcome = .killed
            default:
                Issue.record("seed \(seed): \(error)\n\(self.steps.joined(separator: "\n"))")
                return false
            }
        }
        totals["\(outcome)", default: 0] += 1
        if isAccepting { totals["accepted", default: 0] += 1 }
        // A list may be published though no recipient has changed: its sources have, or its date.
        guard outcome == expected || isLate && outcome == .killed && expected == .done else {
            Issue.record(
                "seed \(seed): \(outcome) instead of \(expected): \(message)\n\(self.steps.joined(separator: "\n"))")
            return false
        }
        return compare(&totals)
    }

    /// Holds the snapshot against the model.
    private func compare(_ totals: inout [String: Int]) -> Bool {
        guard let snapshot = try? folder.snapshot() else { return true }
        var settings = Policy.Settings()
        for domain in ["example.com", "example.org"] { settings.addDomain(domain) }
        settings.indexExpected = true
        let policy = Policy(settings)
        for address in everListed.sorted() {
            let path = Result { () throws(AddressError) in try RecipientAddress(path: address) }
            let verdict = policy.verdict(for: path, client: ClientTrust(), index: snapshot, now: 0)
            let given: Expected? =
                switch verdict.reason {
                case .listed: .listed
                case .internalOnly: .internalOnly
                case .disabled: .disabled
                case .leaving: .leaving
                case .unknown: .unknown
                default: nil
                }
            if given == .leaving { totals["leaving", default: 0] += 1 }
            guard given == model.expected(address) else {
                Issue.record(
                    """
                    seed \(seed): \(address) is \(verdict.reason) instead of \(model.expected(address))
                    \(steps.joined(separator: "\n"))
                    """)
                return false
            }
        }
        return true
    }
}

extension Duration {
    fileprivate var milliseconds: Int64 { Int64((self / .milliseconds(1)).rounded()) }
}
