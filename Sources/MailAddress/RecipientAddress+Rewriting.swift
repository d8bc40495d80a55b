extension RecipientAddress {
    /// The address without its BATV tag: `user@example.com` for `prvs=1234abcdef=user@example.com`; nil if it has none.
    ///
    /// A sender that signs its reverse-path (Bounce Address Tag Validation, draft-levine-smtp-batv) puts a tag before
    /// the local part: one digit for the key, three for the day, and six hexadecimal digits of a hash. Another product
    /// writes `btv1==tag==`. The hash is not checked, as that needs the sender's key.
    public var withoutBounceTag: RecipientAddress? {
        guard let start = withLocalPart(Self.innerStart) else { return nil }
        var inner = self
        var count = 0
        for position in start..<Int(keyCount) {
            inner.bytes[count] = bytes[position]
            count &+= 1
        }
        inner.keyCount = UInt16(truncatingIfNeeded: count)
        inner.localCount = UInt16(truncatingIfNeeded: Int(localCount) - start)
        inner.isRouted = inner.hasRoutingOperator
        return inner
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
    public var isForwardersOwn: Bool {
        withLocalPart { localPart in
            if localPart.startsWith("srs0") { return Self.isRewritten(localPart.dropFirst(4)) }
            guard localPart.startsWith("srs1") else { return false }
            // After the second forwarder's hash and the first forwarder's domain follows the text after the first one's
            // "SRS0".
            let fields = localPart.dropFirst(5).split(
                separator: UInt8(ascii: "="), maxSplits: 2, omittingEmptySubsequences: false)
            return fields.count == 3 && Self.isSeparator(localPart.dropFirst(4).first) && !fields[0].isEmpty
                && !fields[1].isEmpty && Self.isRewritten(fields[2])
        }
    }

    /// Whether the text is `=hash=TT=domain=user`, with none of the four fields empty.
    private static func isRewritten(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        guard isSeparator(text.first) else { return false }
        let fields = text.dropFirst().split(
            separator: UInt8(ascii: "="), maxSplits: 3, omittingEmptySubsequences: false)
        guard fields.count == 4, fields.allSatisfy({ !$0.isEmpty }) else { return false }
        return fields[1].count == 2 && fields[1].allSatisfy { $0.isLetter || (0x32...0x37).contains($0) }
    }

    private static func isSeparator(_ byte: UInt8?) -> Bool {
        byte == UInt8(ascii: "=") || byte == UInt8(ascii: "+") || byte == .hyphen
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

extension RecipientAddress {
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
        guard isForwardersOwn else { return nil }
        var text = Substring(localPart)
        if text.hasPrefix("srs1") {
            // After the second forwarder's hash and the first forwarder's domain follows the text after the first one's
            // "SRS0".
            let fields = text.dropFirst(5).split(separator: "=", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { return nil }
            text = fields[2]
        } else {
            text = text.dropFirst(4)
        }
        let fields = text.dropFirst().split(separator: "=", maxSplits: 3, omittingEmptySubsequences: false)
        guard fields.count == 4 else { return nil }
        return Self.plain(fields[3], fields[2])
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
