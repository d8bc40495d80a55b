import System

/// One packed record of a ``DetailBuffer``, read in place.
struct DetailRecord {
    private let base: UnsafeRawPointer

    init(_ base: UnsafeMutableRawPointer) {
        self.base = UnsafeRawPointer(base)
    }

    var size: Int { Int(base.loadUnaligned(as: UInt32.self)) }
    var time: Int64 { base.loadUnaligned(fromByteOffset: 4, as: Int64.self) }
    var slot: UInt32 { base.loadUnaligned(fromByteOffset: 12, as: UInt32.self) }
    var reason: UInt8 { base.load(fromByteOffset: 16, as: UInt8.self) }
    var outcome: Outcome { Outcome(rawValue: flags & 3) ?? .refused }
    var observed: Bool { flags & 4 != 0 }
    var authenticated: Bool { flags & 8 != 0 }
    var client: IPAddress {
        IPAddress(
            high: base.loadUnaligned(fromByteOffset: 18, as: UInt64.self),
            low: base.loadUnaligned(fromByteOffset: 26, as: UInt64.self))
    }

    /// The texts in the order of ``DetailBuffer/Field``; valid as long as the buffer isn't reused.
    func forEachText(_ body: (DetailBuffer.Field, UnsafeRawBufferPointer) throws -> Void) rethrows {
        var place = base + DetailBuffer.headerSize
        for field in DetailBuffer.Field.allCases {
            let count = length(field)
            try body(field, UnsafeRawBufferPointer(start: place, count: count))
            place += count
        }
    }

    func text(_ wanted: DetailBuffer.Field) -> UnsafeRawBufferPointer {
        var place = base + DetailBuffer.headerSize
        for field in DetailBuffer.Field.allCases {
            if field == wanted { break }
            place += length(field)
        }
        return UnsafeRawBufferPointer(start: place, count: length(wanted))
    }

    private var flags: UInt8 { base.load(fromByteOffset: 17, as: UInt8.self) }

    private func length(_ field: DetailBuffer.Field) -> Int {
        Int(base.loadUnaligned(fromByteOffset: 34 + 2 * field.rawValue, as: UInt16.self))
    }
}
