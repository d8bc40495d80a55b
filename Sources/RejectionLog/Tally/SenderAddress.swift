/// What the form of a sender's address says about the sender.
package enum SenderAddress {
    /// False for `<>` and for addresses that programs send from: bounces, lists, VERP, SRS and BATV tags, newsletters.
    static func mayBePerson(_ address: UnsafeRawBufferPointer) -> Bool {
        guard let at = address.lastIndex(of: 0x40), at > 0, at < 65 else { return false }
        var digits = 0
        var local: [UInt8] = []
        local.reserveCapacity(at)
        for byte in address[..<at] {
            switch byte {
            case 0x30...0x39: digits += 1
            // VERP, SRS and BATV tags; details are rarely senders.
            case 0x2b, 0x3d: return false
            default: break
            }
            local.append(byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte)
        }
        if local.first == 0x3c { local.removeFirst() }
        if digits > 4 || local.isEmpty { return false }
        return !local.withUnsafeBytes { local in
            programs.contains { word in
                local.count >= word.count && UnsafeRawBufferPointer(rebasing: local[..<word.count]).elementsEqual(word)
            } || endings.contains { local.count > $0.count && local.suffix($0.count).elementsEqual($0) }
        }
    }

    private static let programs: [[UInt8]] = [
        "bounce", "noreply", "no-reply", "no_reply", "donotreply", "do-not-reply", "newsletter", "news@",
        "mailer-daemon",
        "postmaster", "owner-", "mailing", "notification", "notify", "alert", "return", "root", "www-data", "apache",
        "nobody", "daemon", "srs0", "srs1", "prvs", "msprvs",
    ].map { Array($0.utf8) }
    private static let endings: [[UInt8]] = [
        "-bounces", "-bounce", "-request", "-owner", "-noreply", "-return", "-errors",
    ].map { Array($0.utf8) }

    /// The sender with `*` in place of a tag that changes from message to message:
    /// `bounces+user=example.org@lists.example` becomes `bounces+*@lists.example`, `prvs=1234abcdef=joe@a.example`
    /// `joe@a.example`, `SRS0=…=b.example=joe@c.example` `SRS0=*@c.example`. Other senders stay unchanged.
    package static func folded(_ address: String) -> String {
        guard let at = address.lastIndex(of: "@") else { return address }
        let (local, domain) = (address[..<at], address[at...])
        let lower = local.lowercased()
        for tag in ["prvs=", "msprvs1=", "btv1=="] where lower.hasPrefix(tag) {
            // BATV: the value of the tag has no "="; the sender follows it.
            let rest = local.dropFirst(tag.count).drop { $0 != "=" }.drop { $0 == "=" }
            return rest.isEmpty ? "\(local.prefix(tag.count))*\(domain)" : folded("\(rest)\(domain)")
        }
        for tag in ["srs0", "srs1"] where lower.hasPrefix(tag) && lower.count > 5 {
            let mark = local[local.index(local.startIndex, offsetBy: 4)]
            if mark == "=" || mark == "+" || mark == "-" { return "\(local.prefix(4))\(mark)*\(domain)" }
        }
        // VERP: the part after the first + or - or =, if it is another address or a number.
        if let equals = local.lastIndex(of: "="), equals > local.startIndex {
            if let mark = local[..<equals].firstIndex(where: { $0 == "+" }) { return "\(local[...mark])*\(domain)" }
            if let mark = local[..<equals].lastIndex(where: { $0 == "-" }) { return "\(local[...mark])*\(domain)" }
            return "*\(domain)"
        }
        if let mark = local.firstIndex(of: "+"), local[mark...].count > 1 { return "\(local[...mark])*\(domain)" }
        if let mark = local.firstIndex(of: "-") {
            let tail = local[local.index(after: mark)...]
            if tail.utf8.count >= 4, tail.utf8.filter({ (0x30...0x39).contains($0) }).count * 2 >= tail.utf8.count {
                return "\(local[...mark])*\(domain)"
            }
        }
        return address
    }
}
