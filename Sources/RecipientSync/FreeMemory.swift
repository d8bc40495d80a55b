import Glibc

/// Gives the system back what the allocator keeps after a sync, some tens of megabytes; malloc_trim(3), which Swift's module of
/// the C library doesn't have.
func returnFreeMemory() {
    typealias Trim = @convention(c) (Int) -> Int32
    guard let symbol = dlsym(nil, "malloc_trim") else { return }
    _ = unsafeBitCast(symbol, to: Trim.self)(0)
}
