/// The characters that begin the detail of a local part, as Postfix's `recipient_delimiter`.
public struct DelimiterSet: Sendable {
    private let characters: ASCIISet

    /// Each ASCII character of `characters` begins a detail; other characters don't count.
    public init(_ characters: String) {
        self.characters = ASCIISet(characters)
    }

    /// Whether no character begins a detail.
    public var isEmpty: Bool { characters.isEmpty }

    /// The place of the first delimiter, but for one at the beginning.
    func firstDelimiter(in localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        var place = 0
        while place < localPart.count {
            if characters.contains(localPart[place]) { return place > 0 ? place : nil }
            place &+= 1
        }
        return nil
    }

    /// Where the detail of a canonical local part begins: the place of its delimiter.
    ///
    /// - Returns: nil where there is none, for what would leave no local part, and for the addresses that Postfix never
    ///   splits (`split_addr`): `postmaster`, `mailer-daemon`, `double-bounce`, and with a hyphen in the set `owner-…`
    ///   and `…-request`.
    func detailStart(in localPart: UnsafeBufferPointer<UInt8>) -> Int? {
        guard let start = firstDelimiter(in: localPart) else { return nil }
        func isWhole(_ name: StaticString) -> Bool {
            name.withUTF8Buffer { localPart.elementsEqual($0) }
        }
        if isWhole("postmaster") || isWhole("mailer-daemon") || isWhole("double-bounce") { return nil }
        if characters.contains(.hyphen) {
            let owner: StaticString = "owner-"
            let request: StaticString = "-request"
            if owner.withUTF8Buffer({ localPart.starts(with: $0) }) { return nil }
            if request.withUTF8Buffer({ localPart.count > $0.count && localPart.suffix($0.count).elementsEqual($0) }) {
                return nil
            }
        }
        return start
    }
}

extension RecipientAddress {
    /// The address without its `+detail`, nil when there is none.
    ///
    /// By the rules of Postfix's `split_addr`: the first delimiter counts, one at the beginning doesn't, and neither
    /// `postmaster`, `mailer-daemon`, `double-bounce` nor, with a hyphen among the delimiters, `owner-…` and `…-request`
    /// are split.
    public func withoutDetail(delimiters: DelimiterSet) -> RecipientAddress? {
        if delimiters.isEmpty { return nil }
        guard let start = withLocalPart({ delimiters.detailStart(in: $0) }) else { return nil }
        var bare = self
        var count = start
        for position in Int(localCount)..<Int(keyCount) {
            bare.bytes[count] = bytes[position]
            count &+= 1
        }
        bare.keyCount = UInt16(truncatingIfNeeded: count)
        bare.localCount = UInt16(truncatingIfNeeded: start)
        bare.isRouted = bare.hasRoutingOperator
        return bare
    }

    /// Whether ``withoutDetail(delimiters:)`` may have something to take away.
    public func mayHaveDetail(delimiters: DelimiterSet) -> Bool {
        withLocalPart { delimiters.firstDelimiter(in: $0) != nil }
    }

    /// Whether the local part holds one of `@`, `%`, `!`.
    var hasRoutingOperator: Bool {
        withLocalPart {
            $0.contains { $0 == .at || $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "!") }
        }
    }
}
