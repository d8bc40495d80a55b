import Foundation
import MailAddress

/// One fault of the configuration file.
struct ConfigurationFault: Sendable, Equatable {
    /// The dotted key, such as `policy.mode` or `source[1].path`; nil where the fault concerns the whole file.
    let key: String?
    /// The line of the key, counted from 1; nil where it is not known.
    let line: Int?
    /// The column, counted from 1, of a fault of TOML's syntax.
    var column: Int?
    /// The value that was given, what is wrong with it, and what is accepted.
    let message: String
}

/// All faults of a configuration file.
struct ConfigurationError: Error, CustomStringConvertible {
    let file: String
    let faults: [ConfigurationFault]

    /// One fault of the whole file.
    init(file: String, _ message: String) {
        self.init(file: file, faults: [ConfigurationFault(key: nil, line: nil, message: message)])
    }

    init(file: String, faults: [ConfigurationFault]) {
        self.file = file
        self.faults = faults
    }

    /// One line for each fault: `file:line: key: value and fault; accepted: …`.
    var description: String {
        faults.map { fault in
            let numbers = [fault.line, fault.column].compactMap { $0 }
            let place = numbers.reduce(file) { "\($0):\($1)" }
            return [place, fault.key, fault.message].compactMap { $0 }.joined(separator: ": ")
        }.joined(separator: "\n")
    }
}

/// What reading a configuration file needs at every key: where relative paths begin, and where faults are collected.
final class ConfigurationContext {
    /// The configuration file, as an absolute path.
    let file: String
    let lines: ConfigurationLines
    private(set) var faults: [ConfigurationFault] = []

    init(file: String, lines: ConfigurationLines) {
        self.file = file
        self.lines = lines
    }

    /// Records a fault of a dotted key. A value that is read twice is reported once.
    func fault(_ key: String, _ message: String) {
        let fault = makeFault(key, message)
        if !faults.contains(fault) { faults.append(fault) }
    }

    /// A fault of a dotted key, with its line.
    func makeFault(_ key: String, _ message: String) -> ConfigurationFault {
        ConfigurationFault(key: key, line: lines.line(of: key), message: message)
    }

    /// A path relative to the folder of the configuration file, made absolute.
    func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/") else { return path }
        return URL(fileURLWithPath: path, relativeTo: URL(fileURLWithPath: file).deletingLastPathComponent()).path
    }
}

/// The lines on which a configuration file sets its keys, and their text.
struct ConfigurationLines: Sendable {
    private var lines: [String: Int] = [:]
    private let texts: [Substring]
    /// The `[[domain]]` tables by the A-label of their domain, such as `domain[0]`.
    private var domainTables: [String: [String]] = [:]

    /// The lines of a document, of which this is the text.
    init(_ document: TOMLNode, text: String) {
        texts = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        add(document, at: "")
    }

    private mutating func add(_ node: TOMLNode, at key: String) {
        if !key.isEmpty { lines[key] = node.line }
        switch node.value {
        case .table(let members):
            for (name, member) in members {
                add(member, at: key.isEmpty ? name : "\(key).\(name)")
                if name == "name", key.hasPrefix("domain["), case .string(let domain) = member.value,
                    let label = try? DomainName(domain.trimmingDot).aLabel
                {
                    domainTables[(domain.hasPrefix(".") ? "." : "") + label, default: []].append(key)
                }
            }
        case .array(let elements):
            for (index, element) in elements.enumerated() { add(element, at: "\(key)[\(index)]") }
        case .string, .integer, .number, .boolean, .date: break
        }
    }

    /// The line of a dotted key, or of the nearest table around it.
    func line(of key: String) -> Int? {
        if let line = lines[key] { return line }
        guard let end = key.lastIndex(where: { $0 == "." || $0 == "[" }) else { return nil }
        return line(of: String(key[..<end]))
    }

    /// The line on which the key itself is set; nil where the file doesn't set it.
    func exactLine(of key: String) -> Int? { lines[key] }

    /// The text of a line, counted from 1, without the blanks around it.
    func text(_ line: Int) -> String? {
        texts.indices.contains(line - 1) ? texts[line - 1].trimmingCharacters(in: .whitespaces) : nil
    }

    /// The `[[domain]]` tables of a domain, such as `domain[0]`.
    func domainTables(named domain: String?) -> [String] { domain.flatMap { domainTables[$0] } ?? [] }
}
