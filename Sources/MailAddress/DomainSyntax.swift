/// The syntax of an ASCII domain, byte by byte: letters, digits, hyphens within labels, underscores, single dots.
///
/// As Postfix has it at RCPT TO: underscores pass though RFC 5321 section 4.1.2 lacks them, digits alone don't.
struct DomainSyntax {
    static let maximumCount = 255
    static let maximumLabelCount = 63

    /// The bytes of the label so far.
    private(set) var labelCount = 0
    private var endsInHyphen = false
    private var hasNonDigit = false
    /// Why a byte was not accepted, or the end is not one.
    private(set) var error: AddressError?

    /// Takes the next byte, a letter in lower case.
    @inline(__always)
    mutating func accepts(_ byte: UInt8) -> Bool {
        if byte.isLetter || byte == UInt8(ascii: "_") {
            hasNonDigit = true
            endsInHyphen = false
        } else if byte.isDigit {
            endsInHyphen = false
        } else if byte == .dot {
            guard labelCount > 0 else { return refuse(.emptyLabel) }
            guard !endsInHyphen else { return refuse(.misplacedHyphen) }
            labelCount = 0
            return true
        } else if byte == .hyphen {
            guard labelCount > 0 else { return refuse(.misplacedHyphen) }
            hasNonDigit = true
            endsInHyphen = true
        } else {
            return refuse(.domainCharacter(byte))
        }
        labelCount &+= 1
        return labelCount <= Self.maximumLabelCount ? true : refuse(.labelTooLong)
    }

    /// Whether the bytes so far are a whole domain.
    @inline(__always)
    var isComplete: Bool {
        mutating get {
            if labelCount == 0 { return refuse(.emptyLabel) }
            if endsInHyphen { return refuse(.misplacedHyphen) }
            return hasNonDigit ? true : refuse(.numericDomain)
        }
    }

    private mutating func refuse(_ error: AddressError) -> Bool {
        self.error = error
        return false
    }
}
