import Foundation
import MailAddress

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
