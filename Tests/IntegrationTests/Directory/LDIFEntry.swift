import Foundation

/// An entry as ldapsearch prints it.
struct LDIFEntry: Equatable {
    let dn: String
    /// Values by the attribute's name in small letters; those that aren't UTF-8 in base64, as printed.
    private let values: [String: [String]]

    /// All values of an attribute, in the order in which they were printed.
    subscript(_ attribute: String) -> [String] { values[attribute.lowercased()] ?? [] }

    /// The names of the attributes that are there, in small letters.
    var attributes: Set<String> { Set(values.keys) }

    /// The entries of a search's output, without its references and comments.
    static func entries(in output: String) -> [LDIFEntry] {
        output.replacingOccurrences(of: "\n ", with: "").components(separatedBy: "\n\n").compactMap { LDIFEntry($0) }
    }

    /// A line of LDIF, in base64 where the value needs that.
    static func line(_ attribute: String, _ value: String) -> String {
        let isPlain = value.utf8.allSatisfy { (0x20...0x7e).contains($0) } && !" :<".contains(value.first ?? "x")
        guard !isPlain || value.hasSuffix(" ") else { return "\(attribute): \(value)" }
        return "\(attribute):: \(Data(value.utf8).base64EncodedString())"
    }

    private init?(_ text: String) {
        var dn: String?
        var values: [String: [String]] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let name = line[..<colon].lowercased()
            let rest = line[line.index(after: colon)...]
            var value = rest.drop { $0 == ":" || $0 == " " }[...]
            if rest.hasPrefix(":"), let data = Data(base64Encoded: String(value)),
                let text = String(data: data, encoding: .utf8)
            {
                value = text[...]
            }
            if name == "dn" { dn = String(value) } else { values[name, default: []].append(String(value)) }
        }
        guard let dn else { return nil }
        self.dn = dn
        self.values = values
    }
}
