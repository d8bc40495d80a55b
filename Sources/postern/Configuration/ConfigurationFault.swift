import Foundation

/// One thing that is wrong with the configuration file.
struct ConfigurationFault: Sendable, Equatable {
    /// The dotted key, such as `policy.mode` or `source[1].path`; nil for what concerns the whole file.
    let key: String?
    /// The line of the key, counted from 1, where it is known.
    let line: Int?
    /// What was given, what is wrong with it, what is accepted.
    let message: String
}

/// All that is wrong with a configuration file.
struct ConfigurationError: Error, CustomStringConvertible {
    let file: String
    let faults: [ConfigurationFault]

    /// A line a fault: file, line, key, what was given, what is accepted.
    var description: String {
        faults.map { fault in
            let place = fault.line.map { "\(file):\($0)" } ?? file
            return fault.key.map { "\(place): \($0): \(fault.message)" } ?? "\(place): \(fault.message)"
        }.joined(separator: "\n")
    }
}
