import Glibc

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a C string without its NUL.
    init(cString: UnsafePointer<CChar>) {
        let count = strlen(cString)
        self.init(start: UnsafeRawPointer(cString).assumingMemoryBound(to: UInt8.self), count: count)
    }
}
