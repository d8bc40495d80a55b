import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSources
import RejectionLog

/// `postern check --batch`: prints the verdict on each line of standard input, without making a `String` of it.
struct BatchCheck {
    private let policy: Policy
    private let trust: ClientTrust
    private let index: IndexSnapshot?
    private let senders: UnlistedSenders
    private let now = Int64(Date().timeIntervalSince1970)
    /// The beginnings of the output lines, by outcome and reason: both words, each with a tab after it. Never freed.
    private let beginnings: UnsafeBufferPointer<UnsafeBufferPointer<UInt8>>

    /// How many addresses are parsed and fetched from the index before the first is judged: the processor waits for the
    /// memory of all of them at once.
    private static let group = Lines.count
    private typealias Lines = InlineArray<16, UnsafeBufferPointer<UInt8>>
    private static let chunkSize = 1 << 18

    init(policy: Policy, trust: ClientTrust, index: IndexSnapshot?, senders: UnlistedSenders) {
        self.policy = policy
        self.trust = trust
        self.index = index
        self.senders = senders
        let texts = Outcome.allCases.flatMap { outcome in
            Reason.allCases.map { "\(outcome.verdictWord)\t\($0.name)\t" }
        }
        let beginnings = UnsafeMutableBufferPointer<UnsafeBufferPointer<UInt8>>.allocate(capacity: texts.count)
        for (place, text) in texts.enumerated() {
            let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
            _ = copy.initialize(from: text.utf8)
            beginnings.initializeElement(at: place, to: UnsafeBufferPointer(copy))
        }
        self.beginnings = UnsafeBufferPointer(beginnings)
    }

    private let reasonCount = Reason.allCases.count

    func run() throws {
        var input = [UInt8](repeating: 0, count: Self.chunkSize)
        var output = OutputBuffer()
        defer { output.deallocate() }
        // The bytes of a line whose end hasn't been read yet.
        var left = 0
        var isBegun = false
        while true {
            if left == input.count { input.append(contentsOf: repeatElement(0, count: input.count)) }
            let count = input.withUnsafeMutableBytes {
                read(STDIN_FILENO, $0.baseAddress.map { $0 + left }, $0.count - left)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                throw Messages.fail("standard input: \(String(cString: strerror(errno)))", ExitStatus.software)
            }
            var filled = left + count
            if !isBegun, filled >= 3 || count == 0 {
                isBegun = true
                filled -= try Self.removeByteOrderMark(&input, filled)
            }
            guard isBegun else {
                left = filled
                continue
            }
            let used = try input.withUnsafeBufferPointer {
                try judge(UnsafeBufferPointer(rebasing: $0[..<filled]), isLast: count == 0, &output)
            }
            try output.flush()
            if count == 0 { return }
            left = filled - used
            input.withUnsafeMutableBytes { input in
                guard let start = input.baseAddress else { return }
                memmove(start, start + used, left)
            }
        }
    }

    /// Removes a byte-order mark of UTF-8 from the beginning of the input.
    ///
    /// - Returns: how many bytes were removed.
    private static func removeByteOrderMark(_ input: inout [UInt8], _ filled: Int) throws -> Int {
        let start = input.prefix(min(filled, 3))
        guard !TextEncoding.isUTF16(input.prefix(filled)) else {
            throw Messages.fail(
                "standard input: the text is UTF-16; accepted: UTF-8, as iconv -f UTF-16 -t UTF-8 makes it",
                ExitStatus.unsoundData)
        }
        guard start.elementsEqual([0xef, 0xbb, 0xbf]) else { return 0 }
        input.withUnsafeMutableBytes { input in
            guard let start = input.baseAddress else { return }
            memmove(start, start + 3, filled - 3)
        }
        return 3
    }

    /// Judges the lines and returns how many bytes they have. A last line without a line end counts only at the end of the input.
    private func judge(_ text: UnsafeBufferPointer<UInt8>, isLast: Bool, _ output: inout OutputBuffer) throws -> Int {
        guard let start = text.baseAddress else { return 0 }
        var place = 0
        try withUnsafeTemporaryAllocation(of: RecipientAddress.self, capacity: Self.group) { addresses in
            var lines = Lines(repeating: UnsafeBufferPointer(start: nil, count: 0))
            var count = 0
            while place < text.count {
                let rest = text.count - place
                let found = memchr(start + place, 0x0a, rest).map { UnsafeRawPointer(start + place).distance(to: $0) }
                guard let length = found ?? (isLast ? rest : nil) else { break }
                var line = UnsafeBufferPointer(start: start + place, count: length)
                place += length + (found == nil ? 0 : 1)
                if line.last == 0x0d { line = UnsafeBufferPointer(rebasing: line.dropLast()) }
                if line.isEmpty { continue }
                lines[count] = line
                do throws(AddressError) {
                    addresses.initializeElement(at: count, to: try RecipientAddress(path: line))
                    count += 1
                } catch {
                    // In the order of the lines.
                    try answer(lines, addresses[..<count], to: &output)
                    count = 0
                    try answer(line, .invalidPath, to: &output)
                }
                if count == Self.group {
                    try answer(lines, addresses[..<count], to: &output)
                    count = 0
                }
            }
            try answer(lines, addresses[..<count], to: &output)
        }
        return place
    }

    private func answer(
        _ lines: Lines, _ addresses: Slice<UnsafeMutableBufferPointer<RecipientAddress>>, to output: inout OutputBuffer
    ) throws {
        let addresses = UnsafeMutableBufferPointer(rebasing: addresses)
        guard let first = addresses.baseAddress else { return }
        var fetched: UInt64 = 0
        if let index {
            for place in 0..<addresses.count { fetched ^= first[place].withKey { index.fetch($0) } }
        }
        withExtendedLifetime(fetched) {}
        for place in 0..<addresses.count {
            let verdict = policy.verdict(
                for: first[place], client: trust, index: index, senders: senders, now: now)
            try answer(lines[place], verdict, to: &output)
        }
    }

    private func answer(_ line: UnsafeBufferPointer<UInt8>, _ verdict: Verdict, to output: inout OutputBuffer) throws {
        try output.append(beginnings[Int(verdict.outcome.rawValue) * reasonCount + Int(verdict.reason.rawValue)])
        try output.append(line)
        try output.appendLineEnd()
    }
}

/// A buffer for standard output in memory of its own. A handle: the owner calls ``deallocate()``.
private struct OutputBuffer {
    private static let capacity = 1 << 18
    private let start = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    private var count = 0

    func deallocate() { start.deallocate() }

    mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) throws {
        guard let source = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            if count == Self.capacity { try flush() }
            let length = min(bytes.count - done, Self.capacity - count)
            memcpy(start + count, source + done, length)
            count += length
            done += length
        }
    }

    mutating func appendLineEnd() throws {
        if count == Self.capacity { try flush() }
        start.storeBytes(of: 0x0a, toByteOffset: count, as: UInt8.self)
        count += 1
    }

    mutating func flush() throws {
        try Results.write(UnsafeRawBufferPointer(start: start, count: count))
        count = 0
    }
}
