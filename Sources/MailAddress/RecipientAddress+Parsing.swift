internal import Foundation

extension RecipientAddress {
    /// atext and dots: what may stand in a local part without quotes (RFC 5321 section 4.1.2).
    ///
    /// Dots are free: some carriers have long given out addresses such as `.a..b@example.com`, and MTAs take them.
    static let plainLocal = ASCIISet(low: 0xA3FF_ECFA_0000_0000, high: 0x7FFF_FFFF_C7FF_FFFE)

    /// Takes the path in one pass if it is plain: ASCII, no quotes, comments, blanks, routes or parameters, and valid.
    ///
    /// - Returns: false if it isn't; the value then holds remains, and `takeAny(_:)` decides.
    mutating func takePlain(_ path: UnsafeBufferPointer<UInt8>) -> Bool {
        var next = 0
        var end = path.count
        guard end > 1 else { return false }
        if path[0] == UInt8(ascii: "<") {
            guard path[end &- 1] == UInt8(ascii: ">") else { return false }
            next = 1
            end &-= 1
        }
        guard next < end, end &- next <= Self.maximumCount else { return false }

        let plain = Self.plainLocal
        var count = 0
        var routed = false
        while next < end {
            let byte = path[next]
            if byte == .at { break }
            guard plain.contains(byte) else { return false }
            routed = routed || byte == UInt8(ascii: "%") || byte == UInt8(ascii: "!")
            bytes[count] = byte.lowercasedASCII
            count &+= 1
            next &+= 1
        }
        guard count > 0 else { return false }
        let localCount = count

        if next < end {
            bytes[count] = .at
            count &+= 1
            next &+= 1
            var syntax = DomainSyntax()
            while next < end {
                let byte = path[next].lowercasedASCII
                next &+= 1
                if byte == .dot && next == end && syntax.labelCount > 0 { break }
                guard syntax.accepts(byte) else { return false }
                bytes[count] = byte
                count &+= 1
            }
            guard syntax.isComplete, count &- localCount &- 1 <= DomainSyntax.maximumCount else { return false }
        }
        self.localCount = UInt16(truncatingIfNeeded: localCount)
        keyCount = UInt16(truncatingIfNeeded: count)
        isRouted = routed
        return true
    }
}

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

extension String {
    /// The string in NFC, with letters that differ only by case made equal.
    ///
    /// Nearly Unicode's full case folding (so ß equals ss), of which the standard library has only the mappings: to
    /// capitals and back.
    var foldedInNFC: String {
        precomposedStringWithCanonicalMapping.caseFolded.precomposedStringWithCanonicalMapping
    }

    private var caseFolded: String {
        var folded = UnicodeScalarView()
        for scalar in unicodeScalars {
            // The dotless i has the capital of the dotted one, and case folding leaves it alone.
            if scalar == "\u{131}" {
                folded.append(scalar)
                continue
            }
            for small in scalar.properties.lowercaseMapping.unicodeScalars {
                for capital in small.properties.uppercaseMapping.unicodeScalars {
                    folded.append(contentsOf: capital.properties.lowercaseMapping.unicodeScalars)
                }
            }
        }
        return String(folded)
    }
}
