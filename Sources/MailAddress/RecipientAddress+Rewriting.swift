extension RecipientAddress {
    /// The address inside a BATV one, nil where it is none: `user@example.com` of `prvs=1234abcdef=user@example.com`.
    ///
    /// A sender that signs its bounces' way home (draft-levine-smtp-batv) puts a tag before the local part: a digit for the
    /// key, three for the day, six hexadecimal ones of a hash. `btv1==tag==` is another product's way to write the same.
    /// Whether the signature is right only who has the key can tell.
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

    /// Where the local part inside begins.
    private static func innerStart(_ localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        let equals = UInt8(ascii: "=")
        if localPart.startsWith("prvs=") {
            // 5 for prvs=, 10 for the tag, one for = and one at least for the rest.
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

    /// Whether the local part is of the Sender Rewriting Scheme, `SRS0=hash=TT=domain=user` or `SRS1=hash=domain==…`: a
    /// sender's address as a forwarder has rewritten it, so that bounces come back to the forwarder.
    ///
    /// The first separator may be `=`, `+` or `-`, TT is a day in two digits of base 32. Whether the hash is right only who
    /// has the forwarder's secret can tell.
    public var isForwardersOwn: Bool {
        withLocalPart { localPart in
            if localPart.startsWith("srs0") { return Self.isRewritten(localPart.dropFirst(4)) }
            guard localPart.startsWith("srs1") else { return false }
            // Behind the second forwarder's hash and the first one's domain there is what the first one had behind SRS0.
            let fields = localPart.dropFirst(5).split(
                separator: UInt8(ascii: "="), maxSplits: 2, omittingEmptySubsequences: false)
            return fields.count == 3 && Self.isSeparator(localPart.dropFirst(4).first) && !fields[0].isEmpty
                && !fields[1].isEmpty && Self.isRewritten(fields[2])
        }
    }

    /// Whether this is `=hash=TT=domain=user`, none of the four empty.
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
    /// In a canonical local part, so in small letters.
    fileprivate var isHexadecimal: Bool { isDigit || (0x61...0x66).contains(self) }
}

extension RecipientAddress {
    /// The mailboxes that a sender's address may belong to, the likeliest first: what is left of it without the tags that programs put in
    /// for one message or one recipient (BATV, SRS, VERP), then the other readings, among them the address as it is.
    ///
    /// `prvs=1234abcdef=joe@example.com` gives `joe@example.com`, `SRS0=hash=TT=example.com=joe@forwarder.example` the same,
    /// `list-bounces+ann=example.net@example.com` gives `list-bounces@example.com`, and `news-1027-77123@example.com` `news@example.com`.
    public var senderMailboxes: [RecipientAddress] {
        var readings = [self]
        // A forwarder may have signed what another has rewritten; more than that is nobody's mail.
        while readings.count < 4, let inner = readings[0].withoutBounceTag ?? readings[0].forwardedSender {
            readings.insert(inner, at: 0)
        }
        return readings[0].withoutRecipientTags + readings
    }

    /// The sender that a forwarder has rewritten by the Sender Rewriting Scheme; nil where the address is no rewritten one.
    private var forwardedSender: RecipientAddress? {
        guard isForwardersOwn else { return nil }
        var text = Substring(localPart)
        if text.hasPrefix("srs1") {
            // Behind the second forwarder's hash and the first one's domain there is what the first one had behind SRS0.
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

    /// The addresses without a part that names a recipient or numbers a message (VERP), the longest first.
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

    /// An address of parts that need no quotes; nil where they are none.
    private static func plain(_ localPart: Substring, _ domain: Substring) -> RecipientAddress? {
        guard !localPart.isEmpty, !domain.isEmpty else { return nil }
        return try? RecipientAddress(path: "\(localPart)@\(domain)")
    }
}
