internal import Foundation

extension RecipientAddress {
    /// The characters that a local part may contain without quotes: atext and dots (RFC 5321 section 4.1.2).
    ///
    /// Dots may stand anywhere: some mobile carriers issue addresses such as `.a..b@example.com`, and MTAs accept them.
    static let plainLocal = ASCIISet(low: 0xA3FF_ECFA_0000_0000, high: 0x7FFF_FFFF_C7FF_FFFE)

    /// Sets the address to a path in one pass if it is plain: valid ASCII without quotes, comments, blanks, route or
    /// parameters.
    ///
    /// - Returns: false if the path isn't plain. The address is then undefined until ``setAny(_:)`` has set it.
    mutating func setPlain(_ path: UnsafeBufferPointer<UInt8>) -> Bool {
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
    /// Sets the address to any path; allocates for UTF-8 only.
    mutating func setAny(_ path: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        let unquoted = try UnquotedAddress(PathEnvelope.address(in: path))
        try unquoted.bytes.span.withUnsafeBufferPointer { (bytes) throws(AddressError) in
            try set(
                unquoted: UnsafeBufferPointer(rebasing: bytes[..<unquoted.count]),
                mayLackLocalPart: unquoted.startsInQuotes)
        }
    }

    private mutating func set(
        unquoted: UnsafeBufferPointer<UInt8>, mayLackLocalPart: Bool
    ) throws(AddressError) {
        var text = unquoted
        // Postfix looks for a source route again once the quotes are removed.
        if text.first == .at, let colon = text.firstIndex(of: .colon), colon < text.count - 1,
            text[1] != UInt8(ascii: "[") || text.lastIndex(of: .at) != 0
        {
            text = UnsafeBufferPointer(rebasing: text[(colon + 1)...])
        }
        guard !text.isEmpty else { throw .empty }
        let at = text.lastIndex(of: .at)
        guard at != 0 || mayLackLocalPart else { throw .emptyLocalPart }
        try setLocalPart(UnsafeBufferPointer(rebasing: text[..<(at ?? text.count)]))
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

    private mutating func setLocalPart(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        if text.allSatisfy({ $0 < 0x80 }) {
            try setFolded(text)
        } else {
            guard let string = String(validating: text, as: UTF8.self) else { throw .invalidUTF8 }
            for scalar in string.unicodeScalars where (0x80..<0xA0).contains(scalar.value) {
                throw .controlCharacter(UInt8(truncatingIfNeeded: scalar.value))
            }
            try setFolded(string.foldedInNFC.utf8)
        }
    }

    private mutating func setFolded(_ localPart: some Collection<UInt8>) throws(AddressError) {
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
    /// The string in NFC and case-folded, so that letters that differ by case only are equal.
    ///
    /// This is nearly Unicode's full case folding (ß equals ss). The standard library has case mappings only, so each
    /// letter is mapped to upper case and back.
    var foldedInNFC: String {
        precomposedStringWithCanonicalMapping.caseFolded.precomposedStringWithCanonicalMapping
    }

    private var caseFolded: String {
        var folded = UnicodeScalarView()
        for scalar in unicodeScalars {
            // The dotless i shares its capital with the dotted i, and case folding keeps it.
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
