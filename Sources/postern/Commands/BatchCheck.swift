import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex

/// `postern check --batch`: verdicts on standard input's lines, without a `String` in between.
struct BatchCheck {
    private let policy: Policy
    private let standing: ClientStanding
    private let index: IndexSnapshot?
    private let now = Int64(Date().timeIntervalSince1970)
    /// By the position of a verdict and a reason in their `allCases`: the word with a tab behind it.
    private let actions: [[UInt8]]
    private let reasons: [[UInt8]]

    /// How many addresses are parsed, and their places in the index asked for, before the first of them is judged: the
    /// processor then waits for the memory of all at once.
    private static let group = Lines.count
    private typealias Lines = InlineArray<16, UnsafeBufferPointer<UInt8>>
    private static let chunkSize = 1 << 18

    init(policy: Policy, standing: ClientStanding, index: IndexSnapshot?) {
        self.policy = policy
        self.standing = standing
        self.index = index
        actions = Verdict.Action.allCases.map { Array("\($0.rawValue)\t".utf8) }
        reasons = Reason.allCases.map { Array("\($0.name)\t".utf8) }
    }

    func run() throws {
        var input = [UInt8](repeating: 0, count: Self.chunkSize)
        var output: [UInt8] = []
        output.reserveCapacity(2 * Self.chunkSize)
        // The beginning of a line whose end hasn't been read yet.
        var left = 0
        while true {
            if left == input.count { input.append(contentsOf: repeatElement(0, count: input.count)) }
            let count = input.withUnsafeMutableBytes {
                read(STDIN_FILENO, $0.baseAddress.map { $0 + left }, $0.count - left)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                throw Messages.fail("standard input: \(String(cString: strerror(errno)))", ExitStatus.software)
            }
            let filled = left + count
            let used = input.withUnsafeBufferPointer {
                judge(UnsafeBufferPointer(rebasing: $0[..<filled]), isLast: count == 0, &output)
            }
            try write(&output)
            if count == 0 { return }
            left = filled - used
            input.withUnsafeMutableBytes { input in
                guard let start = input.baseAddress else { return }
                memmove(start, start + used, left)
            }
        }
    }

    /// Judges the lines and returns how many octets they had; a last one without an end is one only at the end of the input.
    private func judge(_ text: UnsafeBufferPointer<UInt8>, isLast: Bool, _ output: inout [UInt8]) -> Int {
        guard let start = text.baseAddress else { return 0 }
        var place = 0
        withUnsafeTemporaryAllocation(of: RecipientAddress?.self, capacity: Self.group) { addresses in
            addresses.initialize(repeating: nil)
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
                addresses[count] = try? RecipientAddress(path: line)
                count += 1
                if count == Self.group {
                    answer(lines, UnsafeBufferPointer(addresses), &output)
                    count = 0
                }
            }
            answer(lines, UnsafeBufferPointer(rebasing: addresses[..<count]), &output)
        }
        return place
    }

    private func answer(
        _ lines: Lines, _ addresses: UnsafeBufferPointer<RecipientAddress?>, _ output: inout [UInt8]
    ) {
        var fetched: UInt64 = 0
        if let index {
            for place in addresses.indices { fetched ^= addresses[place]?.withKey { index.fetch($0) } ?? 0 }
        }
        withExtendedLifetime(fetched) {}
        for place in addresses.indices {
            let verdict =
                switch addresses[place] {
                case .some(let address): policy.verdict(for: address, client: standing, index: index, now: now)
                case nil: Verdict.invalidPath
                }
            let action =
                switch verdict.action {
                case .accept: 0
                case .reject: 1
                case .tempfail: 2
                }
            output.append(contentsOf: actions[action])
            output.append(contentsOf: reasons[Int(verdict.reason.rawValue)])
            output.append(contentsOf: lines[place])
            output.append(0x0a)
        }
    }

    private func write(_ output: inout [UInt8]) throws {
        try output.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(STDOUT_FILENO, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count < 0 && errno == EINTR { continue }
                // A reader that has seen enough, such as head, is no fault.
                guard count >= 0 else {
                    if errno == EPIPE { throw ExitCode(0) }
                    throw Messages.fail(
                        "standard output can't be written: \(String(cString: strerror(errno)))", ExitStatus.inputOutput)
                }
                done += count
            }
        }
        output.removeAll(keepingCapacity: true)
    }
}
