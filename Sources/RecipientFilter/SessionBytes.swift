import Glibc
import RejectionLog

/// A copy of bytes that a session keeps from one call to the next. A handle: the owner calls ``deallocate()``.
struct SessionBytes {
    private(set) var bytes = UnsafeBufferPointer<UInt8>.none

    /// No bytes.
    init() {}

    /// A copy of the first bytes of a text, `limit` at most.
    init(_ text: String, limit: Int) {
        var text = text
        text.withUTF8 { replace(with: $0, limit: limit) }
    }

    /// A copy of the first bytes, `limit` at most.
    init(_ bytes: UnsafeBufferPointer<UInt8>?, limit: Int) { replace(with: bytes, limit: limit) }

    func deallocate() { bytes.deallocate() }

    /// Frees the copy and copies the first of other bytes, `limit` at most.
    mutating func replace(with other: UnsafeBufferPointer<UInt8>?, limit: Int) {
        bytes.deallocate()
        bytes = .none
        guard let other, !other.isEmpty, limit > 0 else { return }
        let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: min(other.count, limit))
        _ = copy.update(fromContentsOf: other.prefix(limit))
        bytes = UnsafeBufferPointer(copy)
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// Whether the bytes are those of the text.
    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount, let baseAddress else { return false }
        return memcmp(baseAddress, text.utf8Start, count) == 0
    }

    /// Whether the bytes are an enhanced status code of class 4 or 5 and nothing else, such as `5.1.1` (RFC 3463 section 2). A
    /// transport `error:5.1.1 moved` also shows as the mailer `error`, but with a text after the code.
    var isEnhancedStatusCode: Bool {
        guard count <= 9, first == UInt8(ascii: "4") || first == UInt8(ascii: "5") else { return false }
        let parts = split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 3
            && parts.allSatisfy { (1...3).contains($0.count) && $0.allSatisfy { (0x30...0x39).contains($0) } }
    }

    /// Whether the bytes are the parameter `SMTPUTF8` of MAIL (RFC 6531 section 3.4), in letters of either case.
    var isSMTPUTF8: Bool {
        count == 8
            && zip(self, "SMTPUTF8".utf8).allSatisfy { byte, letter in
                byte == letter || byte ^ 0x20 == letter && letter >= UInt8(ascii: "A")
            }
    }

    /// The bytes between a leading `<` and the last `>`; all bytes where they aren't in brackets.
    var withoutAngleBrackets: Self {
        guard first == UInt8(ascii: "<"), let end = lastIndex(of: UInt8(ascii: ">")) else { return self }
        return Self(rebasing: self[1..<end])
    }
}
