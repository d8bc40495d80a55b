import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSources

/// `postern check --batch`: verdicts on standard input's lines, without a `String` in between.
struct BatchCheck {
    private let policy: Policy
    private let standing: ClientStanding
    private let index: IndexSnapshot?
    private let senders: UnlistedSenders
    private let now = Int64(Date().timeIntervalSince1970)
    /// How a line begins, by verdict and reason: both words with a tab behind each. They live as long as the process.
    private let beginnings: UnsafeBufferPointer<UnsafeBufferPointer<UInt8>>

    /// How many addresses are parsed, and their places in the index asked for, before the first of them is judged: the
    /// processor then waits for the memory of all at once.
    private static let group = Lines.count
    private typealias Lines = InlineArray<16, UnsafeBufferPointer<UInt8>>
    private static let chunkSize = 1 << 18

    init(policy: Policy, standing: ClientStanding, index: IndexSnapshot?, senders: UnlistedSenders) {
        self.policy = policy
        self.standing = standing
        self.index = index
        self.senders = senders
        let texts = Self.actions.flatMap { action in Reason.allCases.map { "\(action.rawValue)\t\($0.name)\t" } }
        let beginnings = UnsafeMutableBufferPointer<UnsafeBufferPointer<UInt8>>.allocate(capacity: texts.count)
        for (place, text) in texts.enumerated() {
            let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
            _ = copy.initialize(from: text.utf8)
            beginnings.initializeElement(at: place, to: UnsafeBufferPointer(copy))
        }
        self.beginnings = UnsafeBufferPointer(beginnings)
    }

    private let reasonCount = Reason.allCases.count
    private static let actions: [Verdict.Action] = [.accept, .reject, .tempfail]

    func run() throws {
        var input = [UInt8](repeating: 0, count: Self.chunkSize)
        var output = Output()
        defer { output.deallocate() }
        // The beginning of a line whose end hasn't been read yet.
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

    /// Takes a byte-order mark of UTF-8 from the beginning of the input, which is none of the first address's.
    ///
    /// - Returns: how many bytes it had.
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

    /// Judges the lines and returns how many octets they had; a last one without an end is one only at the end of the input.
    private func judge(_ text: UnsafeBufferPointer<UInt8>, isLast: Bool, _ output: inout Output) throws -> Int {
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
                    try answer(lines, addresses[..<count], &output)
                    count = 0
                    try answer(line, .invalidPath, &output)
                }
                if count == Self.group {
                    try answer(lines, addresses[..<count], &output)
                    count = 0
                }
            }
            try answer(lines, addresses[..<count], &output)
        }
        return place
    }

    private func answer(
        _ lines: Lines, _ addresses: Slice<UnsafeMutableBufferPointer<RecipientAddress>>, _ output: inout Output
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
                for: first[place], client: standing, index: index, senders: senders, now: now)
            try answer(lines[place], verdict, &output)
        }
    }

    private func answer(_ line: UnsafeBufferPointer<UInt8>, _ verdict: Verdict, _ output: inout Output) throws {
        let action =
            switch verdict.action {
            case .accept: 0
            case .reject: 1
            case .tempfail: 2
            }
        try output.append(beginnings[action * reasonCount + Int(verdict.reason.rawValue)])
        try output.append(line)
        try output.appendLineEnd()
    }
}

/// What is to be written to standard output, in memory of its own: a handle, whose owner calls ``deallocate()``.
private struct Output {
    private static let capacity = 1 << 18
    private let start = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    private var count = 0

    func deallocate() { start.deallocate() }

    mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) throws {
        guard let source = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            if count == Self.capacity { try flush() }
            let taken = min(bytes.count - done, Self.capacity - count)
            memcpy(start + count, source + done, taken)
            count += taken
            done += taken
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
