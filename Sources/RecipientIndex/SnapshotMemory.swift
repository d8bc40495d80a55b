import Glibc
import System

/// Memory for a snapshot's body: the process's own, in huge pages where the kernel gives them, returned to the system when it is freed.
///
/// Huge pages make a search faster, which would otherwise look for the page in the page table too, and filling the memory needs a
/// hundredth of the page faults.
struct SnapshotMemory: ~Copyable {
    let bytes: UnsafeMutableRawBufferPointer

    /// Memory that is all zero; mmap(2), madvise(2).
    init(count: Int) throws(IndexFault) {
        // Only whole huge pages at multiples of their size can be used: some more memory, of which both ends are given back.
        let page = 2 << 20
        let extra = count >= page ? page : 0
        let start = mmap(nil, count + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, 0)
        guard let start, start != UnsafeMutableRawPointer(bitPattern: -1) else {
            let code = errno
            throw IndexFault(
                .unreadable(code), "can't be read: there is no memory for its \(count) bytes: \(systemMessage(code))")
        }
        guard extra > 0 else {
            bytes = UnsafeMutableRawBufferPointer(start: start, count: count)
            return
        }
        let aligned = start.alignedUp(toMultipleOf: page)
        if aligned > start { munmap(start, aligned - start) }
        let smallPage = 4096
        let end = (aligned + count).alignedUp(toMultipleOf: smallPage)
        let limit = (start + count + extra).alignedUp(toMultipleOf: smallPage)
        if limit > end { munmap(end, limit - end) }
        madvise(aligned, count, Int32(MADV_HUGEPAGE))
        bytes = UnsafeMutableRawBufferPointer(start: aligned, count: count)
    }

    deinit { munmap(bytes.baseAddress, bytes.count) }

    /// Makes a write to the memory end the process instead of changing what recipients are judged by; mprotect(2).
    func seal() { mprotect(bytes.baseAddress, bytes.count, PROT_READ) }
}
