import Foundation
import Milter
import RecipientFilter
import RecipientSources
import System
import TestSupport
import Testing

@testable import postern

/// The table of keys, and what is made from it: the sample, the manual page, and the names in the documents.
@Suite struct ConfigurationKeyTests {
    private let folder: TemporaryFolder
    private let context = ConfigurationContext(
        file: "/etc/postern/postern.toml", lines: ConfigurationLines(.init(value: [:]), text: ""))
    private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    init() throws { folder = try TemporaryFolder() }

    /// Every section with the keys of each kind of its tables.
    private var tables: [(section: String, keys: any ConfigurationKeys)] {
        FileKeys().all.flatMap { section in (section.tables?.kinds ?? []).map { (section.name, $0) } }
    }

    private func load(_ lines: [String]) throws -> Configuration {
        try Configuration.load(folder.write(lines.joined(separator: "\n") + "\n", as: "postern.toml"))
    }

    @Test func eachKeyHasOneDescription() {
        #expect(tables.flatMap(\.keys.all).count > 100)
        for (section, keys) in tables {
            let names = keys.all.map(\.name)
            #expect(Set(names).count == names.count, "\(section): \(names)")
            for key in keys.all {
                let name = "\(section).\(key.name)"
                #expect(key.name.wholeMatch(of: /[a-z0-9_]+/) != nil, "\(name)")
                #expect(key.explanation.hasSuffix(".") && key.explanation.count < 330, "\(name)")
                #expect(key.isRequired || key.defaultValue != nil || key.defaultNote != nil, "\(name) says no default")
                #expect(!key.isRequired || key.defaultValue == nil, "\(name) is required and has a default")
                #expect(key.defaultValue != nil || key.example != nil, "\(name) has neither a default nor an example")
            }
        }
    }

    /// Every key accepts its own default and its own example.
    @Test func defaultsAndExamplesAreAccepted() {
        for (section, keys) in tables {
            for key in keys.all {
                for value in [key.defaultValue, key.example].compactMap({ $0 }) {
                    #expect(key.isSound(value, context), "\(section).\(key.name) = \(value): \(context.faults)")
                }
            }
        }
    }

    /// A file that sets every key to its default is the same as one that sets none.
    @Test func defaultsInTheFileChangeNothing() throws {
        let given = tables.filter { $0.section != "domain" && $0.section != "source" }.flatMap { section, keys in
            ["[\(section)]"]
                + keys.all.compactMap { key in
                    key.name == "domains"
                        ? "domains = [\"example.com\"]" : key.defaultValue.map { "\(key.name) = \($0)" }
                }
        }
        #expect(given.count > 60)
        let all = try load(given + ["[[source]]", "name = \"s\"", "type = \"command\"", "command = [\"/bin/true\"]"])
        let none = try load([
            "[relay]", "domains = [\"example.com\"]", "[[source]]", "name = \"s\"", "type = \"command\"",
            "command = [\"/bin/true\"]",
        ])
        #expect(all.rules == none.rules && all.rules == DomainSettings())
        #expect(all.policy.always == none.policy.always && all.policy.always == Policy.Settings().always)
        #expect(all.policy.trustAuthenticated == Policy.Settings().trustAuthenticated)
        #expect(all.policy.harvest == none.policy.harvest && all.policy.harvest == Policy.Harvest())
        #expect(all.policy.trustedNetworks == none.policy.trustedNetworks)
        #expect(all.policy.trustedNetworks.map(\.description) == ["127.0.0.0/8", "::1/128"])
        #expect(
            all.policy.replies
                == Dictionary(
                    uniqueKeysWithValues: try ReplyKind.allCases.map {
                        ($0, try ReplyTemplate($0.defaultText, for: $0))
                    }))
        #expect(none.policy.replies.isEmpty)
        #expect(all.relaysIndexDomains == none.relaysIndexDomains && all.reloadsByItself == none.reloadsByItself)
        #expect(all.keepingRestartSettings(of: none).differing == [])
        for (one, other) in [
            ("\(all.sync)", "\(none.sync)"), ("\(all.index)", "\(none.index)"), ("\(all.log)", "\(none.log)"),
        ] {
            #expect(one == other)
        }
        guard case .command(let command) = none.sync.sources.first?.kind else {
            Issue.record("no command")
            return
        }
        #expect(command == CommandConfiguration(command: ["/bin/true"]))
    }

    /// A directory source without optional keys equals `DirectoryConfiguration` with its own defaults.
    @Test(arguments: DirectoryConfiguration.Dialect.allCases)
    func keyDefaultsEqualDirectoryDefaults(dialect: DirectoryConfiguration.Dialect) throws {
        let configuration = try load([
            "[relay]", "domains = [\"example.com\"]", "[[source]]", "name = \"d\"", "type = \"\(dialect.rawValue)\"",
            "uris = [\"ldaps://dc1.corp.example\"]",
        ])
        let servers = [try #require(LDAPURI("ldaps://dc1.corp.example"))]
        #expect(
            configuration.sync.sources.map(\.kind) == [.directory(DirectoryConfiguration(dialect, servers: servers))])
    }

    /// A reload leaves exactly those keys unchanged whose manual entry says that a change needs a restart.
    @Test func reloadKeepsKeysThatNeedARestart() throws {
        let first = try load(["[relay]", "domains = [\"example.com\"]"])
        let second = try load([
            "[relay]", "domains = [\"example.com\"]", "[milter]", "socket = \"inet:8899@127.0.0.1\"",
            "socket_mode = \"0600\"",
            "max_connections = 3", "[index]", "path = \"other.index\"", "[log]", "database = \"other.sqlite\"",
            "retention = \"9d\"", "detail_retention = \"8d\"", "lines = false", "redact = true", "max_size = \"64M\"",
            "[http]", "listen = \"127.0.0.1:1\"",
        ])
        let (kept, differing) = second.keepingRestartSettings(of: first)
        #expect(kept.keepingRestartSettings(of: first).differing == [])
        let expected = tables.flatMap { section, keys in keys.all.filter(\.needsRestart).map { "\(section).\($0.name)" }
        }
        #expect(Set(differing) == Set(expected))
    }

    // MARK: The sample

    private var sample: [String] { ConfigurationSample.text.components(separatedBy: "\n") }

    /// The lines of the sample with the comment sign taken from the keys.
    private var wholeSample: [String] {
        sample.map { line in
            line.firstMatch(of: /^#([a-z_0-9]+ = .*|\[\[[a-z]+\]\])/).map { String($0.1) } ?? line
        }
    }

    @Test func theSampleIsAccepted() throws {
        let configuration = try load(sample)
        #expect(configuration.domains.map(\.name) == ["example.com", "example.org"])
        #expect(configuration.sync.sources.map(\.name) == ["recipients"])
        #expect(sample.allSatisfy { $0.count <= 130 }, "\(sample.filter { $0.count > 130 })")
    }

    /// The sample shows every key in its section, and its values are accepted.
    @Test func theSampleShowsEveryKey() throws {
        var shown: [String: Set<String>] = [:]
        var section = ""
        for line in wholeSample {
            if let match = line.wholeMatch(of: /\[+([a-z]+)\]+/) {
                section = String(match.1)
            } else if let match = line.firstMatch(of: #/^([a-z_0-9]+) = /#) {
                shown[section, default: []].insert(String(match.1))
            }
        }
        for section in FileKeys().all {
            let names = Set(
                (section.tables?.kinds ?? []).flatMap(\.entries).flatMap { entry in
                    if case .key(let key) = entry { return [key.name] }
                    return []
                })
            #expect(shown[section.name] == names, "\(section.name)")
        }
        // The faults are keys that exclude each other, and a table that isn't there.
        let error = #expect(throws: ConfigurationError.self) { try load(wholeSample) }
        #expect(
            error?.faults.map(\.key) == [
                "relay.domains_from[0]", "domain[0].replies", "source[2].sasl",
            ], "\(error?.description ?? "")")
    }

    // MARK: The manual and the documents

    @Test func theManualPageIsUpToDate() throws {
        let page = try String(contentsOf: root.appendingPathComponent("contrib/man/postern.toml.5"), encoding: .utf8)
        #expect(
            page == ConfigurationManual.text,
            "contrib/man/postern.toml.5 is not up to date; run: postern config manual > contrib/man/postern.toml.5")
    }

    /// Every key that the documents and contrib's configurations name exists.
    @Test func documentsNameExistingKeysOnly() throws {
        var sections: [String: Set<String>] = [:]
        for (section, keys) in tables { sections[section, default: []].formUnion(keys.all.map(\.name)) }
        let files = try documents()
        #expect(files.count > 3)
        var count = 0
        for (name, text) in files {
            for match in text.matches(of: /`([a-z]+)\.([a-z0-9_]+)`/) {
                guard let keys = sections[String(match.1)], !["sqlite", "index"].contains(match.2) else { continue }
                #expect(keys.contains(String(match.2)), "\(name): \(match.0)")
                count += 1
            }
            let blocks =
                name.hasSuffix(".toml") ? [text] : text.matches(of: #/(?s)```toml\n(.*?)```/#).map { String($0.1) }
            for block in blocks {
                #expect(unknownKeys(in: block) == [], "\(name)")
                count += 1
            }
        }
        #expect(count > 30)
    }

    private func documents() throws -> [(name: String, text: String)] {
        let paths = try FileManager.default.subpathsOfDirectory(atPath: root.appendingPathComponent("contrib").path)
            .filter { !$0.contains(".build/") && ($0.hasSuffix(".md") || $0.hasSuffix(".toml")) }
        return try (["README.md"] + paths.map { "contrib/\($0)" }).map {
            ($0, try String(contentsOf: root.appendingPathComponent($0), encoding: .utf8))
        }
    }

    /// The unknown keys of a configuration, or part of one.
    private func unknownKeys(in text: String) -> [String] {
        do {
            _ = try Configuration.load(folder.write(text, as: "document.toml"))
            return []
        } catch let error as ConfigurationError {
            return error.faults.filter { $0.key == nil || $0.message.hasPrefix("unknown key") }.map {
                "\($0.key ?? "\($0.line ?? 0)"): \($0.message)"
            }
        } catch {
            return ["\(error)"]
        }
    }
}
