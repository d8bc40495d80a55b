// Patterns: the input is one, a line end, and an address that it is looked for in; neither may trap.

import MailAddress
import RecipientFilter

private func check(_ input: UnsafeBufferPointer<UInt8>) {
    let end = input.firstIndex(of: 0x0a) ?? input.count
    let text = String(decoding: input[..<end], as: UTF8.self)
    guard let pattern = try? RecipientPattern(text, action: .accept) else { return }
    var settings = Policy.Settings()
    settings.domains = [("example.com", Policy.Rules(), 0)]
    settings.patterns = [pattern]
    let policy = Policy(settings)
    let rest = UnsafeBufferPointer(rebasing: input[min(end + 1, input.count)...])
    let recipient = Result { () throws(AddressError) in try RecipientAddress(path: rest) }
    _ = policy.verdict(for: recipient, client: ClientStanding(), index: nil, now: 0)
}

/// Called by libFuzzer with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    check(UnsafeBufferPointer(start: data, count: count))
    return 0
}
