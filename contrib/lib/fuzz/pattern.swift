// Patterns: the input is a pattern, a line feed, and an address to match. Neither may trap, and no pattern may cost
// more than its budget. If the input begins with a NUL, the bytes after it make a pattern of nested repeats.

import MailAddress
import RecipientFilter

/// A pattern of nested repeats: each byte adds one around all before it.
private func nested(_ input: Slice<UnsafeBufferPointer<UInt8>>) -> String {
    var text = "a"
    for byte in input.prefix(48) {
        let count = [0, 1, 2, 3, 16, 100, 253, 254][Int(byte & 7)]
        let most = ["", ",", ",254", ",\(count)"][Int(byte >> 3 & 3)]
        text = "(\(text)){\(count)\(most)}" + ["", "", "", "b", "|c", "|", ".", "$"][Int(byte >> 5)]
    }
    return "x" + text
}

private func check(_ input: UnsafeBufferPointer<UInt8>) {
    let end = input.firstIndex(of: 0x0a) ?? input.count
    let text = input.first == 0 ? nested(input[1..<max(end, 1)]) : String(decoding: input[..<end], as: UTF8.self)
    var budget = PatternBudget()
    let compiled = try? RecipientPattern(text, action: .accept, &budget)
    if budget.steps > 600_000 || budget.bytes > 600_000 { fatalError("\(budget) for \(text)") }
    guard let pattern = compiled else { return }
    var settings = Policy.Settings()
    settings.addDomain("example.com")
    settings.patterns = [pattern]
    let policy = Policy(settings)
    let rest = UnsafeBufferPointer(rebasing: input[min(end + 1, input.count)...])
    let recipient = Result { () throws(AddressError) in try RecipientAddress(path: rest) }
    _ = policy.verdict(for: recipient, client: ClientTrust(), index: nil, now: 0)
}

/// Called by libFuzzer with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    check(UnsafeBufferPointer(start: data, count: count))
    return 0
}
