extension RecipientAddress {
    /// Takes any path; allocates only for UTF-8.
    mutating func takeAny(_ path: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        let unquoted = try UnquotedAddress(PathEnvelope.address(in: path))
        try unquoted.bytes.span.withUnsafeBufferPointer { (bytes) throws(AddressError) in
            try take(
                unquoted: UnsafeBufferPointer(rebasing: bytes[..<unquoted.count]),
                mayLackLocalPart: unquoted.startsInQuotes)
        }
    }

    private mutating func take(
        unquoted: UnsafeBufferPointer<UInt8>, mayLackLocalPart: Bool
    ) throws(AddressError) {
        var text = unquoted
        // Postfix looks for a source route once more, without quotes now.
        if text.first == .at, let colon = text.firstIndex(of: .colon), colon < text.count - 1,
            text[1] != UInt8(ascii: "[") || text.lastIndex(of: .at) != 0
        {
            text = UnsafeBufferPointer(rebasing: text[(colon + 1)...])
        }
        guard !text.isEmpty else { throw .empty }
        let at = text.lastIndex(of: .at)
        guard at != 0 || mayLackLocalPart else { throw .emptyLocalPart }
        try takeLocalPart(UnsafeBufferPointer(rebasing: text[..<(at ?? text.count)]))
        guard let at else {
            keyCount = localCount
            return
        }
        let domain = try CanonicalDomain(UnsafeBufferPointer(rebasing: text[(at + 1)...]))
        var count = Int(localCount)
        guard count + 1 + domain.count <= Self.maximumCount else { throw .pathTooLong }
        bytes[count] = .at
        count &+= 1
        for position in 0..<domain.count {
            bytes[count] = domain.bytes[position]
            count &+= 1
        }
        keyCount = UInt16(truncatingIfNeeded: count)
    }

    private mutating func takeLocalPart(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        if text.allSatisfy({ $0 < 0x80 }) {
            try takeFolded(text)
        } else {
            guard let string = String(validating: text, as: UTF8.self) else { throw .invalidUTF8 }
            for scalar in string.unicodeScalars where (0x80..<0xA0).contains(scalar.value) {
                throw .controlCharacter(UInt8(truncatingIfNeeded: scalar.value))
            }
            try takeFolded(string.foldedInNFC.utf8)
        }
    }

    private mutating func takeFolded(_ localPart: some Collection<UInt8>) throws(AddressError) {
        var count = 0
        for byte in localPart {
            guard count < Self.maximumCount else { throw .pathTooLong }
            bytes[count] = byte.lowercasedASCII
            count &+= 1
        }
        localCount = UInt16(truncatingIfNeeded: count)
        keyCount = localCount
        isRouted = hasRoutingOperator
    }
}
