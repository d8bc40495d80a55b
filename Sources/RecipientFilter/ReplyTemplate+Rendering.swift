extension ReplyTemplate {
    /// Writes the reply's text, without the codes, into a buffer.
    ///
    /// Octets outside printable ASCII become `?`: a recipient is hostile input, and only a client that asked for SMTPUTF8 may
    /// be sent UTF-8 (RFC 6531 section 3.7.4.1). What doesn't fit is cut off.
    ///
    /// - Parameter utf8: whether the client may, and the recipient is well-formed UTF-8.
    /// - Returns: the number of octets written.
    func render(
        into buffer: UnsafeMutableBufferPointer<UInt8>, recipient: UnsafeBufferPointer<UInt8>,
        domain: UnsafeBufferPointer<UInt8>, client: UnsafeBufferPointer<UInt8>,
        utf8: Bool = false
    ) -> Int {
        var count = 0
        func append(_ bytes: some Sequence<UInt8>) {
            for byte in bytes where count < buffer.count {
                buffer[count] = byte >= 0x20 && (byte < 0x7f || byte > 0x7f && utf8) ? byte : UInt8(ascii: "?")
                count += 1
            }
        }
        for segment in segments {
            switch segment {
            case .text(let text): append(text)
            case .recipient: append(recipient)
            case .domain: append(domain)
            case .client: append(client)
            }
        }
        return count
    }

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
