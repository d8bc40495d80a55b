import CTOMLPlusPlus
import System

/// A table, an array or a value of a TOML document, with its place in the text.
struct TOMLNode: Sendable {
    let value: TOMLValue
    /// The line of the key, of the header, or of the element of an array; counted from 1, and 0 for a value that no
    /// text holds.
    var line = 0
}

/// What a TOML document can hold. Literals of Swift are the values that they look like.
enum TOMLValue: Sendable {
    case table([(key: String, node: TOMLNode)])
    case array([TOMLNode])
    case string(String)
    case integer(Int64)
    case number(Double)
    case boolean(Bool)
    /// A date or a time, as TOML writes it.
    case date(String)
}

/// Why a text isn't TOML.
struct TOMLSyntaxError: Error {
    /// Counted from 1; nil where the parser names no place.
    let line: Int?
    let column: Int?
    let message: String
}

extension TOMLNode {
    /// The table of a whole document.
    init(parsing text: [UInt8]) throws(TOMLSyntaxError) {
        let parsed = text.withUnsafeBytes { ctoml_parse($0.bindMemory(to: CChar.self).baseAddress, $0.count) }
        guard let document = parsed else {
            throw TOMLSyntaxError(line: nil, column: nil, message: "no memory is left to parse it")
        }
        defer { ctoml_free(document) }
        let fault = String(ctoml_fault(document))
        guard fault.isEmpty else {
            var (line, column) = (UInt32(0), UInt32(0))
            ctoml_fault_place(document, &line, &column)
            throw TOMLSyntaxError(
                line: line > 0 ? Int(line) : nil, column: line > 0 ? Int(column) : nil, message: fault)
        }
        var count = 0
        var nodes = UnsafeBufferPointer(start: ctoml_nodes(document, &count), count: count)[...]
        self = Self.next(&nodes).node
    }

    /// The first of the nodes, with what it holds; these nodes are taken off.
    private static func next(_ nodes: inout Slice<UnsafeBufferPointer<ctoml_node>>) -> (key: String, node: TOMLNode) {
        let node = nodes.removeFirst()
        let value: TOMLValue
        switch node.kind {
        case CTOML_TABLE: value = .table((0..<node.children).map { _ in next(&nodes) })
        case CTOML_ARRAY: value = .array((0..<node.children).map { _ in next(&nodes).node })
        case CTOML_STRING: value = .string(String(node.text))
        case CTOML_INTEGER: value = .integer(node.integer)
        case CTOML_FLOAT: value = .number(node.number)
        case CTOML_BOOLEAN: value = .boolean(node.boolean)
        default: value = .date(String(node.text))
        }
        return (String(node.key), TOMLNode(value: value, line: Int(node.line)))
    }
}

extension String {
    fileprivate init(_ text: ctoml_text) {
        self.init(decoding: UnsafeRawBufferPointer(start: text.bytes, count: text.count), as: UTF8.self)
    }
}

extension TOMLValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    init(stringLiteral value: String) { self = .string(value) }
    init(integerLiteral value: Int64) { self = .integer(value) }
    init(booleanLiteral value: Bool) { self = .boolean(value) }
    init(arrayLiteral elements: TOMLValue...) { self = .array(elements.map { TOMLNode(value: $0) }) }
    init(dictionaryLiteral elements: (String, TOMLValue)...) {
        self = .table(elements.map { ($0.0, TOMLNode(value: $0.1)) })
    }
}

extension TOMLValue: CustomStringConvertible {
    /// The value as a TOML file may hold it, on one line.
    var description: String {
        switch self {
        case .table(let members):
            members.isEmpty
                ? "{}" : "{ \(members.map { "\($0.key) = \($0.node.value)" }.joined(separator: ", ")) }"
        case .array(let elements): "[\(elements.map { "\($0.value)" }.joined(separator: ", "))]"
        // A literal string, in which a backslash is one.
        case .string(let text) where text.contains("\\") && !text.contains("'"): "'\(text.escapedForMessage)'"
        case .string(let text): "\"\(text.escapedForMessage.replacing("\"", with: "\\\""))\""
        case .integer(let integer): "\(integer)"
        case .number(let number): "\(number)"
        case .boolean(let boolean): "\(boolean)"
        case .date(let text): text
        }
    }

    /// What a message calls a value of this kind.
    var kindName: String {
        switch self {
        case .table: "a table"
        case .array: "a list"
        case .string: "a string"
        case .integer: "a number"
        case .number: "a number with a fraction"
        case .boolean: "true or false"
        case .date: "a date or time"
        }
    }
}
