import Glibc
import Synchronization

/// A domain controller that tests share, each with an organizational unit of its own. The first test of a process
/// starts it; no test stops it or changes entries that other tests use.
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
