import Glibc
import Synchronization

/// A domain controller that tests share, each in a unit of its own: it is made by the first of a process, and none of
/// them stops it or changes what the others rely on.
enum SharedController {
    private static let made = Mutex<SambaInstance?>(nil)

    static func instance() throws -> SambaInstance {
        try made.withLock { made in
            if let made { return made }
            let samba = try SambaInstance(in: Workspace())
            made = samba
            // It would outlive the process, which ends without releasing it.
            atexit { SharedController.made.withLock { $0 = nil } }
            return samba
        }
    }
}

// Of the suites that use it, one test runs at a time.
extension SambaInstance: @unchecked Sendable {}
