public import Glibc

/// The system's text for an error number, such as "No such file or directory"; `strerror_r(3)`.
///
/// - Parameter code: an `errno` value; by default that of the last call of the thread.
public func systemMessage(_ code: Int32 = errno) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// The folder of a file's path, as `dirname(1)` prints it: "." for a name without a slash.
public func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
