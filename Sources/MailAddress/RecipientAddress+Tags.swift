/// The characters that separate a local part from its detail (`user+detail`); Postfix's `recipient_delimiter`.
public struct DelimiterSet: Sendable {
    private let characters: ASCIISet

    /// The set of the ASCII characters of a text; other characters are left out.
    public init(_ characters: String) { self.characters = ASCIISet(characters) }

    /// Whether the set has no characters.
    public var isEmpty: Bool { characters.isEmpty }

    /// The position of the first delimiter; nil if there is none or it begins the local part.
    func firstDelimiter(in localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        var place = 0
        while place < localPart.count {
            if characters.contains(localPart[place]) { return place > 0 ? place : nil }
            place &+= 1
        }
        return nil
    }

    /// The position of the delimiter before the detail of a canonical local part.
    ///
    /// - Returns: nil if there is no detail, and for the local parts that Postfix never splits (`split_addr`):
    ///   `postmaster`, `mailer-daemon`, `double-bounce`, and, if the hyphen is a delimiter, `owner-…` and `…-request`.
    func detailStart(in localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        guard let start = firstDelimiter(in: localPart) else { return nil }
        func isWhole(_ name: StaticString) -> Bool { name.withUTF8Buffer { localPart.elementsEqual($0) } }
        if isWhole("postmaster") || isWhole("mailer-daemon") || isWhole("double-bounce") { return nil }
        if characters.contains(.hyphen) {
            if localPart.startsWith("owner-") { return nil }
            let request: StaticString = "-request"
            if request.withUTF8Buffer({ localPart.count > $0.count && localPart.suffix($0.count).elementsEqual($0) }) {
                return nil
            }
        }
        return start
    }
}

extension RecipientAddress {
    /// The address without its `+detail`, which Postfix's rules (`split_addr`) separate; nil if it has none.
    public func withoutDetail(delimiters: DelimiterSet) -> RecipientAddress? {
        if delimiters.isEmpty { return nil }
        guard let start = withLocalPart({ delimiters.detailStart(in: $0) }) else { return nil }
        return removing(start..<Int(localCount))
    }

    /// False if ``withoutDetail(delimiters:)`` surely returns nil; a fast check.
    public func mayHaveDetail(delimiters: DelimiterSet) -> Bool {
        withLocalPart { delimiters.firstDelimiter(in: $0) != nil }
    }

    /// The address without some bytes of its local part.
    @inline(__always)
    fileprivate func removing(_ range: Range<Int>) -> RecipientAddress {
        var rest = self
        var count = range.lowerBound
        for position in range.upperBound..<Int(keyCount) {
            rest.bytes[count] = bytes[position]
            count &+= 1
        }
        rest.keyCount = UInt16(truncatingIfNeeded: count)
        rest.localCount = UInt16(truncatingIfNeeded: Int(localCount) &- range.count)
        rest.isRouted = rest.hasRoutingOperator
        return rest
    }
}

extension RecipientAddress {
    /// The address without its BATV tag: `user@example.com` for `prvs=1234abcdef=user@example.com`; nil if it has none.
    ///
    /// A sender that signs its reverse-path (Bounce Address Tag Validation, draft-levine-smtp-batv) puts a tag before
    /// the local part: one digit for the key, three for the day, and six hexadecimal digits of a hash. Another product
    /// writes `btv1==tag==`. The hash is not checked, as that needs the sender's key.
    public var withoutBounceTag: RecipientAddress? {
        withLocalPart(Self.innerStart).map { removing(0..<$0) }
    }

    /// The position at which the local part without a BATV tag begins; nil if there is no tag.
    private static func innerStart(_ localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        let equals = UInt8(ascii: "=")
        if localPart.startsWith("prvs=") {
            // 5 bytes for "prvs=", 10 for the tag, 1 for "=", and at least 1 for the local part.
            guard localPart.count > 16, localPart[15] == equals else { return nil }
            guard localPart[5..<9].allSatisfy(\.isDigit), localPart[9..<15].allSatisfy(\.isHexadecimal) else {
                return nil
            }
            return 16
        }
        if localPart.startsWith("btv1==") {
            guard let end = localPart[6...].firstIndex(of: equals), end > 6, end + 2 < localPart.count,
                localPart[end + 1] == equals, localPart[6..<end].allSatisfy(\.isHexadecimal)
            else { return nil }
            return end + 2
        }
        return nil
    }

    /// Whether the local part has the form of the Sender Rewriting Scheme: `SRS0=hash=TT=domain=user` or
    /// `SRS1=hash=domain==…`.
    ///
    /// A forwarder rewrites a sender's address that way, so that bounces return to the forwarder. The first separator
    /// may be `=`, `+` or `-`; TT is the day in two digits of base 32. The hash is not checked, as that needs the
    /// forwarder's secret.
    public var isForwardersOwn: Bool { withLocalPart { Self.rewrittenSender($0) != nil } }

    /// The sender's user and domain in a local part of the Sender Rewriting Scheme; nil for any other local part.
    private static func rewrittenSender(
        _ localPart: UnsafeBufferPointer<UInt8>
    ) -> (user: Slice<UnsafeBufferPointer<UInt8>>, domain: Slice<UnsafeBufferPointer<UInt8>>)? {
        let equals = UInt8(ascii: "=")
        var text = localPart.dropFirst(4)
        if localPart.startsWith("srs1") {
            // After the second forwarder's hash and the first forwarder's domain follows the text after the first one's
            // "SRS0".
            let fields = text.dropFirst().split(separator: equals, maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3, isSeparator(text.first), !fields[0].isEmpty, !fields[1].isEmpty else { return nil }
            text = fields[2]
        } else if !localPart.startsWith("srs0") {
            return nil
        }
        guard isSeparator(text.first) else { return nil }
        let fields = text.dropFirst().split(separator: equals, maxSplits: 3, omittingEmptySubsequences: false)
        guard fields.count == 4, fields.allSatisfy({ !$0.isEmpty }), fields[1].count == 2,
            fields[1].allSatisfy({ $0.isLetter || (0x32...0x37).contains($0) })
        else { return nil }
        return (fields[3], fields[2])
    }

    private static func isSeparator(_ byte: UInt8?) -> Bool {
        byte == UInt8(ascii: "=") || byte == UInt8(ascii: "+") || byte == .hyphen
    }
    /// The mailboxes that a sender's address may belong to, the most likely first.
    ///
    /// First comes the address without the tags that programs add for one message or one recipient (BATV, SRS, VERP),
    /// then other interpretations, and at last the address itself. `prvs=1234abcdef=joe@example.com` and
    /// `SRS0=hash=TT=example.com=joe@forwarder.example` give `joe@example.com`,
    /// `list-bounces+ann=example.net@example.com` gives `list-bounces@example.com`, and `news-1027-77123@example.com`
    /// gives `news@example.com`.
    public var senderMailboxes: [RecipientAddress] {
        var readings = [self]
        // A forwarder may have signed an address that another one has rewritten; real mail has no more layers.
        while readings.count < 4, let inner = readings[0].withoutBounceTag ?? readings[0].forwardedSender {
            readings.insert(inner, at: 0)
        }
        return readings[0].withoutRecipientTags + readings
    }

    /// The sender's address before a forwarder has rewritten it by the Sender Rewriting Scheme; nil if the address has
    /// another form.
    private var forwardedSender: RecipientAddress? {
        withLocalPart { localPart in
            Self.rewrittenSender(localPart).flatMap { sender in
                Self.plain(
                    Substring(decoding: sender.user, as: UTF8.self), Substring(decoding: sender.domain, as: UTF8.self))
            }
        }
    }

    /// The addresses that remain without the part that names a recipient or numbers a message (VERP), the longest
    /// first.
    private var withoutRecipientTags: [RecipientAddress] {
        let text = localPart
        let domain = Substring(self.domain)
        if let equals = text.lastIndex(of: "="), (try? DomainName(String(text[text.index(after: equals)...]))) != nil {
            let front = text[..<equals]
            if let mark = front.firstIndex(of: "+") { return [Self.plain(front[..<mark], domain)].compactMap(\.self) }
            return front.indices.filter { front[$0] == "-" }.reversed().compactMap { Self.plain(front[..<$0], domain) }
        }
        guard let mark = text.firstIndex(of: "-") else { return [] }
        let tail = text[text.index(after: mark)...].utf8
        let digits = tail.count { (0x30...0x39).contains($0) }
        guard tail.count >= 4, digits * 2 >= tail.count else { return [] }
        return [Self.plain(text[..<mark], domain)].compactMap(\.self)
    }

    /// The address of a local part and a domain; nil if they are not valid without quotes.
    private static func plain(_ localPart: Substring, _ domain: Substring) -> RecipientAddress? {
        guard !localPart.isEmpty, !domain.isEmpty else { return nil }
        return try? RecipientAddress(path: "\(localPart)@\(domain)")
    }
}

extension UnsafeBufferPointer<UInt8> {
    fileprivate func startsWith(_ text: StaticString) -> Bool {
        text.withUTF8Buffer { starts(with: $0) }
    }
}

extension UInt8 {
    /// Whether the byte is a hexadecimal digit in lower case, as in a canonical local part.
    fileprivate var isHexadecimal: Bool { isDigit || (0x61...0x66).contains(self) }
}
