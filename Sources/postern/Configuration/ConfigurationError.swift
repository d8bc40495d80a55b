import Foundation

/// One fault of the configuration file.
struct ConfigurationFault: Sendable, Equatable {
    /// The dotted key, such as `policy.mode` or `source[1].path`; nil where the fault concerns the whole file.
    let key: String?
    /// The line of the key, counted from 1; nil where it is not known.
    let line: Int?
    /// The column, counted from 1, of a fault of TOML's syntax.
    var column: Int?
    /// The value that was given, what is wrong with it, and what is accepted.
    let message: String
}

/// All faults of a configuration file.
struct ConfigurationError: Error, CustomStringConvertible {
    let file: String
    let faults: [ConfigurationFault]

    /// One fault of the whole file.
    init(file: String, _ message: String) {
        self.init(file: file, faults: [ConfigurationFault(key: nil, line: nil, message: message)])
    }

    init(file: String, faults: [ConfigurationFault]) {
        self.file = file
        self.faults = faults
    }

    /// One line for each fault: `file:line: key: value and fault; accepted: …`.
    var description: String {
        faults.map { fault in
            let numbers = [fault.line, fault.column].compactMap { $0 }
            let place = numbers.reduce(file) { "\($0):\($1)" }
            return [place, fault.key, fault.message].compactMap { $0 }.joined(separator: ": ")
        }.joined(separator: "\n")
    }
}

/// What reading a configuration file needs at every key: where relative paths begin, and where faults are collected.
final class ConfigurationContext {
    /// The configuration file, as an absolute path.
    let file: String
    let lines: ConfigurationLines
    private(set) var faults: [ConfigurationFault] = []

    init(file: String, lines: ConfigurationLines) {
        self.file = file
        self.lines = lines
    }

    /// Records a fault of a dotted key. A value that is read twice is reported once.
    func fault(_ key: String, _ message: String) {
        let fault = makeFault(key, message)
        if !faults.contains(fault) { faults.append(fault) }
    }

    /// A fault of a dotted key, with its line.
    func makeFault(_ key: String, _ message: String) -> ConfigurationFault {
        ConfigurationFault(key: key, line: lines.line(of: key), message: message)
    }

    /// A path relative to the folder of the configuration file, made absolute.
    func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/") else { return path }
        return URL(fileURLWithPath: path, relativeTo: URL(fileURLWithPath: file).deletingLastPathComponent()).path
    }
}
