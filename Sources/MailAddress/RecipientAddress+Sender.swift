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
