import System

/// The unknown recipients that were counted last in a ``HarvestStripe``, in bounded memory: one that turns out to exist was no guess.
struct RecentRecipients {
    /// A recipient that was counted.
    struct Recipient {
        /// The client network that asked for it.
        let network: IPAddress
        /// The part of the window that it was counted in.
        let part: Int64
        /// Its canonical address.
        let key: [UInt8]
        /// Its number among all.
        fileprivate let number: Int
    }

    private struct Record {
        let network: IPAddress
        /// Nil once it is taken back.
        var part: Int64?
        /// The place of its first byte in all that was ever written.
        let start: Int
        let length: Int
        let number: Int
    }

    private static let recordCount = 512
    /// Room for the addresses: 32 bytes each on the average.
    private static let byteCount = 16_384

    /// By the number modulo ``recordCount``; empty until the first recipient comes.
    private var records: [Record?] = []
    private var bytes: [UInt8] = []
    /// How many recipients, and how many bytes of them, were ever written.
    private var count = 0
    private var written = 0

    /// The memory that it takes, in bytes.
    var size: Int { records.capacity * MemoryLayout<Record?>.stride + bytes.capacity }

    /// Remembers a recipient in the place of the oldest ones.
    mutating func append(_ key: UnsafeBufferPointer<UInt8>, of network: IPAddress, part: Int64) {
        guard !key.isEmpty, key.count <= 512 else { return }
        if records.isEmpty {
            records = Array(repeating: nil, count: Self.recordCount)
            bytes = Array(repeating: 0, count: Self.byteCount)
        }
        bytes.withUnsafeMutableBufferPointer { bytes in
            for offset in 0..<key.count { bytes[(written &+ offset) & (Self.byteCount - 1)] = key[offset] }
        }
        records[count & (Self.recordCount - 1)] = Record(
            network: network, part: part, start: written, length: key.count, number: count)
        written &+= key.count
        count &+= 1
    }

    /// All that are remembered.
    var all: [Recipient] {
        records.compactMap { record in
            guard let record, let part = record.part, written &- record.start <= Self.byteCount else { return nil }
            let key = (0..<record.length).map { bytes[(record.start &+ $0) & (Self.byteCount - 1)] }
            return Recipient(network: record.network, part: part, key: key, number: record.number)
        }
    }

    /// Forgets a recipient; false if it was forgotten already.
    mutating func remove(_ recipient: Recipient) -> Bool {
        let place = recipient.number & (Self.recordCount - 1)
        guard !records.isEmpty, let record = records[place], record.number == recipient.number, record.part != nil
        else {
            return false
        }
        records[place]?.part = nil
        return true
    }
}
