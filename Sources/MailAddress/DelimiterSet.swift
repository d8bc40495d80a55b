/// The characters that separate a local part from its detail (`user+detail`); Postfix's `recipient_delimiter`.
public struct DelimiterSet: Sendable {
    private let characters: ASCIISet

    /// The set of the ASCII characters of a text; other characters are left out.
    public init(_ characters: String) {
        self.characters = ASCIISet(characters)
    }

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
    /// The address without its `+detail`; nil if it has none.
    ///
    /// As in Postfix (`split_addr`), the detail begins at the first delimiter, unless that begins the local part.
    /// `postmaster`, `mailer-daemon`, `double-bounce` and, if the hyphen is a delimiter, `owner-…` and `…-request` have
    /// no detail.
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

    /// False if ``withoutDetail(delimiters:)`` surely returns nil; a fast check.
    public func mayHaveDetail(delimiters: DelimiterSet) -> Bool {
        withLocalPart { delimiters.firstDelimiter(in: $0) != nil }
    }

    /// Whether the local part contains `@`, `%` or `!`.
    var hasRoutingOperator: Bool {
        withLocalPart {
            $0.contains { $0 == .at || $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "!") }
        }
    }
}
