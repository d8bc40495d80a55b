/// Finds listed recipients close to an unlisted one, by asking the index for variations: the index holds no address in
/// clear.
///
/// The variations are: everything one slip away (a letter or separator left out, added, changed or swapped with its
/// neighbour), the order and short forms of names, other relay domains, and for longer local parts two typing errors.
/// Short local parts have fewer variations, because nearly every short local part is close to another.
struct NearMissSearch {
    /// A listed recipient, and its difference from the rejected one.
    struct Hit: Equatable {
        var resembles: String
        var difference: String
    }

    private let isListed: (UnsafeBufferPointer<UInt8>) -> Bool
    private let relayDomains: [[UInt8]]
    /// How many more times the index may be asked.
    private(set) var budget: Int
    /// True once the budget was used up.
    private(set) var isExhausted = false

    /// - Parameters:
    ///   - budget: how often the index may be asked.
    ///   - relayDomains: the relay domains, as A-labels in lower case.
    init(budget: Int, relayDomains: [String], isListed: @escaping (UnsafeBufferPointer<UInt8>) -> Bool) {
        self.budget = budget
        self.relayDomains = relayDomains.prefix(2_000).map { Array($0.utf8) }
        self.isListed = isListed
    }

    /// True if the address itself is listed.
    mutating func lists(_ address: String) -> Bool {
        var address = address
        return address.withUTF8 { ask($0) }
    }

    /// The listed recipient one slip away from a recipient of a relay domain, or with its name in another order.
    mutating func oneSlip(_ address: String) -> Hit? {
        guard let parts = Parts(address) else { return nil }
        let (local, domain) = (parts.local, parts.domain)
        if local.count >= 3 {
            for place in 0..<(local.count - 1) where local[place] != local[place + 1] {
                var other = local
                other.swapAt(place, place + 1)
                if let hit = found(other, at: domain, "2 \(Self.word(local[place], local[place + 1]))s swapped") {
                    return hit
                }
            }
        }
        if local.count >= 4 {
            for place in local.indices where place == 0 || local[place] != local[place - 1] {
                var other = local
                let gone = other.remove(at: place)
                if let hit = found(other, at: domain, "1 \(Self.word(gone)) too many") { return hit }
            }
            for place in 0...local.count {
                for letter in Self.letters where place == 0 || local[place - 1] != letter {
                    var other = local
                    other.insert(letter, at: place)
                    if let hit = found(other, at: domain, "1 \(Self.word(letter)) left out") { return hit }
                }
            }
            for place in local.indices {
                for letter in Self.neighbours(local[place]) + Self.letters where letter != local[place] {
                    var other = local
                    other[place] = letter
                    if let hit = found(other, at: domain, "1 \(Self.word(local[place], letter)) changed") { return hit }
                }
            }
        }
        return names(local, domain) ?? domains(local, domain)
    }

    /// The listed recipient two typing errors away from a recipient of a relay domain.
    mutating func twoSlips(_ address: String) -> Hit? {
        guard let parts = Parts(address), parts.local.count >= 7, parts.local.count <= 24 else { return nil }
        let first = Self.fingerSlips(parts.local)
        var seen: Set<[UInt8]> = [parts.local]
        for once in first {
            if isExhausted { return nil }
            for twice in Self.fingerSlips(once) where twice.count >= 6 && seen.insert(twice).inserted {
                if let hit = found(twice, at: parts.domain, "2 slips") { return hit }
            }
        }
        return nil
    }

    /// The listed recipient with the same local part in a relay domain one slip away from a foreign domain.
    mutating func domainSlip(_ address: String) -> Hit? {
        guard let parts = Parts(address) else { return nil }
        for domain in relayDomains where Self.isOneSlip(parts.domain, domain) {
            if let hit = found(parts.local, at: domain, "domain") { return hit }
        }
        return nil
    }

    // MARK: Variations

    private mutating func names(_ local: [UInt8], _ domain: [UInt8]) -> Hit? {
        let parts = local.split(whereSeparator: Self.isSeparator).map(Array.init)
        guard parts.count == 2, let first = parts.first, let last = parts.last,
            local.count == first.count + last.count + 1
        else { return nil }
        var orders = [(first, last, "separator"), (last, first, "name order")]
        // Only for a first name in full: an initial could stand for many names.
        if first.count > 1, last.count > 2 { orders.append((Array(first.prefix(1)), last, "first name in full")) }
        for (left, right, difference) in orders {
            for separator in Self.separators.map({ [$0] }) + [[]] {
                if let hit = found(left + separator + right, at: domain, difference) { return hit }
            }
        }
        return nil
    }

    private mutating func domains(_ local: [UInt8], _ domain: [UInt8]) -> Hit? {
        for other in relayDomains.prefix(50) where other != domain {
            if let hit = found(local, at: other, "other domain") { return hit }
        }
        return nil
    }

    private mutating func found(_ local: [UInt8], at domain: [UInt8], _ difference: String) -> Hit? {
        guard local.count >= 3, let first = local.first, let last = local.last, first != 0x2e, last != 0x2e else {
            return nil
        }
        let address = local + [0x40] + domain
        guard address.withUnsafeBufferPointer({ ask($0) }) else { return nil }
        return Hit(resembles: String(decoding: address, as: UTF8.self), difference: difference)
    }

    private mutating func ask(_ address: UnsafeBufferPointer<UInt8>) -> Bool {
        guard budget > 0 else {
            isExhausted = true
            return false
        }
        budget -= 1
        return isListed(address)
    }

    // MARK: Letters

    private static let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789.-_".utf8)
    private static let separators = Array(".-_".utf8)
    /// The rows of a keyboard: QWERTY, QWERTZ and AZERTY have nearly the same neighbours.
    private static let rows = ["1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"].map { Array($0.utf8) }
    private static let keys: [[UInt8]] = {
        var keys = [[UInt8]](repeating: [], count: 128)
        for (number, row) in rows.enumerated() {
            for (place, key) in row.enumerated() {
                var near: [UInt8] = []
                for line in max(0, number - 1)...min(rows.count - 1, number + 1) {
                    for column in (place - 1)...(place + 1) where rows[line].indices.contains(column) {
                        if rows[line][column] != key { near.append(rows[line][column]) }
                    }
                }
                keys[Int(key)] = near
            }
        }
        for (key, other) in [
            ("y", "z"), ("z", "y"), ("q", "a"), ("a", "q"), ("v", "f"), ("f", "v"), ("c", "k"), ("k", "c"),
        ] {
            keys[Int(Array(key.utf8)[0])].append(contentsOf: other.utf8)
        }
        keys[0x2e] = [0x2d, 0x5f]
        keys[0x2d] = [0x2e, 0x5f]
        keys[0x5f] = [0x2e, 0x2d]
        return keys
    }()

    private static func neighbours(_ letter: UInt8) -> [UInt8] { letter < 128 ? keys[Int(letter)] : [] }

    /// The local parts one typing error away: neighbours swapped, a letter left out or doubled, the next key hit.
    private static func fingerSlips(_ local: [UInt8]) -> [[UInt8]] {
        var results: [[UInt8]] = []
        for place in local.indices {
            if place + 1 < local.count, local[place] != local[place + 1] {
                var other = local
                other.swapAt(place, place + 1)
                results.append(other)
            }
            var other = local
            other.remove(at: place)
            results.append(other)
            other = local
            other.insert(local[place], at: place)
            results.append(other)
            for letter in neighbours(local[place]) {
                other = local
                other[place] = letter
                results.append(other)
            }
        }
        for place in 1..<max(1, local.count) {
            for letter in Array("aeiounrst".utf8) where letter != local[place] && letter != local[place - 1] {
                var other = local
                other.insert(letter, at: place)
                results.append(other)
            }
        }
        return results
    }

    private static func isSeparator(_ letter: UInt8) -> Bool { letter == 0x2e || letter == 0x2d || letter == 0x5f }

    private static func word(_ letters: UInt8...) -> String {
        if letters.contains(where: isSeparator) { return "separator" }
        return letters.contains { (0x30...0x39).contains($0) } ? "digit" : "letter"
    }

    /// True if the two differ by one letter added, left out or changed, or by two neighbours swapped.
    static func isOneSlip(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left != right, abs(left.count - right.count) <= 1, left.count >= 4 else { return false }
        var place = 0
        let shorter = min(left.count, right.count)
        while place < shorter, left[place] == right[place] { place += 1 }
        if left.count == right.count {
            if left[(place + 1)...] == right[(place + 1)...] { return true }
            return place + 1 < left.count && left[place] == right[place + 1] && left[place + 1] == right[place]
                && left[(place + 2)...] == right[(place + 2)...]
        }
        return left.count > right.count
            ? left[(place + 1)...] == right[place...] : left[place...] == right[(place + 1)...]
    }

    /// An address in lower case, cut at its `@`; nil for an address that nobody types.
    private struct Parts {
        var local: [UInt8]
        var domain: [UInt8]

        init?(_ address: String) {
            var bytes = Array(address.lowercased().utf8)
            if bytes.first == 0x3c { bytes.removeFirst() }
            if bytes.last == 0x3e { bytes.removeLast() }
            if bytes.last == 0x2e { bytes.removeLast() }
            guard let at = bytes.lastIndex(of: 0x40), at + 1 < bytes.count else { return nil }
            local = Array(bytes[..<at])
            domain = Array(bytes[(at + 1)...])
            // The detail after "+" isn't part of the recipient's name.
            if let plus = local.firstIndex(of: 0x2b), plus >= 3 { local.removeSubrange(plus...) }
            guard (3...40).contains(local.count), domain.count <= 255,
                local.allSatisfy({
                    (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || NearMissSearch.isSeparator($0)
                })
            else { return nil }
        }
    }
}
