extension ReplyTemplate {
    /// The whole reply as it goes over the wire, for `postern check`.
    public func text(recipient: String, domain: String, client: String) -> String {
        let rendered = segments.map { segment in
            switch segment {
            case .text(let text): String(decoding: text, as: UTF8.self)
            case .recipient: recipient
            case .domain: domain
            case .client: client
            }
        }
        return "\(code) \(enhancedCode) \(rendered.joined())"
    }
}
