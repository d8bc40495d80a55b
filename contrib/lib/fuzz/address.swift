// The address parser, and the verdict on its result: no input may trap, and a canonical form must parse to itself.

import MailAddress
import RecipientFilter

/// A policy with every rule that looks at an address.
private let policy: Policy = {
    var rules = DomainSettings()
    rules.delimiter = "+-="
    rules.batv = true
    rules.srs = true
    rules.subdomains = true
    rules.blocked = ["old"]
    var settings = Policy.Settings()
    for domain in ["example.com", "xn--bcher-kva.example", ".below.example"] { settings.addDomain(domain, rules) }
    settings.blocked = ["old@example.com"]
    settings.patterns = ["^lst-[0-9]+@", "(a|ä)+.*b{2,3}$"].compactMap { try? RecipientPattern($0, action: .accept) }
    return Policy(settings)
}()

private func check(_ path: UnsafeBufferPointer<UInt8>) {
    let recipient = Result { () throws(AddressError) in try RecipientAddress(path: path) }
    for isBounce in [false, true] {
        _ = policy.verdict(for: recipient, client: ClientTrust(isBounce: isBounce), index: nil, now: 0)
    }
    guard case .success(let address) = recipient else { return }
    if !address.withKey({ $0.count <= 512 }) { fatalError("too long a key: \(address.key)") }
    // A routed address may look like a source route in quotes; it is rejected, or relayed for trusted clients.
    guard address.hasDomain, !address.isRouted else { return }
    var quoted = "<\""
    for scalar in address.localPart.unicodeScalars {
        if scalar == "\"" || scalar == "\\" { quoted += "\\" }
        quoted.unicodeScalars.append(scalar)
    }
    quoted += "\"@\(address.domain)>"
    let again = try? RecipientAddress(path: quoted)
    if again != address { fatalError("\(address.key) becomes \(again?.key ?? "none")") }
}

/// Called by libFuzzer with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    check(UnsafeBufferPointer(start: data, count: count))
    return 0
}
