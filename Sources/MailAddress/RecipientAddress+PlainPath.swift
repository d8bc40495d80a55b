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
