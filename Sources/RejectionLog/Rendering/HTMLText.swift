import Mustache

/// Text as it goes into HTML, into an attribute's quotes too.
///
/// swift-mustache's own escaping goes by characters: a quote that is followed by a combining mark is another character to it,
/// and gets through. This one goes by scalars.
struct HTMLText: MustacheContentType {
    /// The name in the templates' `CONTENT_TYPE`.
    static let name = "POSTERN-HTML"

    func escapeText(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }
}
