import Foundation
import Synchronization
import TestSupport
import Testing

/// A running `MilterTestFilter`, killed when the object is freed.
final class FilterProcess {
    let process = Process()
    private let output = Pipe()
    private let errors = Pipe()
    private var pending = Data()

    /// The executable that SwiftPM builds beside the test bundle.
    static var executable: URL {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("MilterTestFilter")
    }

    init(_ arguments: [String], launcher: [String] = [], executable: URL = FilterProcess.executable) throws {
        let command = launcher + [executable.path] + arguments
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = errors
        try process.run()
    }

    /// Starts a filter at a unix socket in the folder, and waits until it listens.
    static func serving(
        _ socket: String, _ options: [String] = [], launcher: [String] = [], executable: URL = FilterProcess.executable
    ) throws -> FilterProcess {
        let filter = try FilterProcess([socket] + options, launcher: launcher, executable: executable)
        guard try filter.line() == "ready" else { throw TestFailure("the filter didn't start: \(filter.complaint())") }
        return filter
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    var isRunning: Bool { process.isRunning }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// The next line of standard output; nil at its end.
    func line() throws -> String? {
        while true {
            if let end = pending.firstIndex(of: 0x0a) {
                let line = String(decoding: pending[..<end], as: UTF8.self)
                pending = pending[pending.index(after: end)...]
                return line
            }
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { return nil }
            pending.append(data)
        }
    }

    /// All of standard error, once the process has ended.
    func complaint() -> String {
        process.waitUntilExit()
        return String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    }

    func status() -> Int32 {
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    /// Resident memory in KiB.
    func residentMemory() throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
        guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmRSS:") }),
            let number = line.split(separator: " ").dropLast().last.flatMap({ Int($0) })
        else { throw TestFailure("no VmRSS") }
        return number
    }
}
