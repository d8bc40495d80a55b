import System

/// The networks of a list in Postfix's form, where `!` before a network excludes it from those after it.
struct TrustedNetworks {
    private(set) var networks: [IPNetwork] = []
    private var excluded: [IPNetwork] = []

    /// The networks as `relay.trusted_networks` has them.
    var texts: [String] { networks.map { $0.shortDescription } }

    /// Adds an element such as `10.0.0.0/8`, `[::1]/128` or `!10.0.0.1`.
    ///
    /// - Returns: the reason why it can't be taken over; nil if it is.
    mutating func add(_ element: String) -> String? {
        var text = element
        let isExcluded = text.hasPrefix("!")
        if isExcluded { text.removeFirst() }
        do {
            let network = try IPNetwork(text)
            if isExcluded {
                excluded.append(network)
            } else {
                for part in remainder(of: network) where !networks.contains(part) { networks.append(part) }
            }
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// The parts of a network that aren't excluded.
    private func remainder(of network: IPNetwork) -> [IPNetwork] {
        let address = network.address
        if excluded.contains(where: { $0.prefixLength <= network.prefixLength && $0.contains(address) }) { return [] }
        guard excluded.contains(where: { network.contains($0.address) }) else { return [network] }
        let length = network.prefixLength + 1
        guard length <= (address.isIPv4 ? 32 : 128) else { return [] }
        let last = network.range.upperBound
        return [address, last].flatMap {
            remainder(of: IPNetwork(of: $0, ipv4Prefix: length, ipv6Prefix: length))
        }
    }
}
