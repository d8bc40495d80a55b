import Foundation

/// What the kernel says of this process; nil where it doesn't.
struct ProcessFigures {
    /// In octets.
    let residentMemory: Int?
    let openDescriptors: Int?
    /// User and system time, in seconds.
    let processorSeconds: Double?

    init() {
        let words = FileManager.default.contents(atPath: "/proc/self/statm")
            .map { String(decoding: $0, as: UTF8.self).split(separator: " ") }
        residentMemory = words.flatMap { $0.count > 1 ? Int($0[1]) : nil }.map {
            $0 * Int(sysconf(Int32(_SC_PAGESIZE)))
        }
        openDescriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count
        var usage = rusage()
        processorSeconds =
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0
            ? [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 } : nil
    }
}
