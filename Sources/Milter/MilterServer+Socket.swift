import CMilter
import Glibc
import Synchronization
import System

/// A unix socket as it was made: another one that takes its place later has another inode.
struct SocketFile: Sendable {
    let path: String
    let device: dev_t
    let inode: ino_t

    /// The file at the path; nil when there is none.
    init?(path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        self.path = path
        device = status.st_dev
        inode = status.st_ino
    }
}

extension MilterServer {
    /// Tells libmilter of the callbacks (`smfi_register`).
    func register() throws(MilterError) {
        let status = configuration.name.withCString { name in
            smfi_register(
                smfiDesc(
                    xxfi_name: UnsafeMutablePointer(mutating: name), xxfi_version: Int32(SMFI_VERSION),
                    xxfi_flags: UInt(SMFIF_SETSYMLIST), xxfi_connect: connectCallback, xxfi_helo: heloCallback,
                    xxfi_envfrom: mailCallback, xxfi_envrcpt: recipientCallback, xxfi_header: nil, xxfi_eoh: nil,
                    xxfi_body: nil, xxfi_eom: nil, xxfi_abort: abortCallback, xxfi_close: closeCallback,
                    xxfi_unknown: nil, xxfi_data: nil, xxfi_negotiate: negotiateCallback))
        }
        guard status == MI_SUCCESS else {
            throw MilterError(.libmilter, "libmilter is of another version than the one that the filter was built with")
        }
    }

    /// Makes the socket at an address of libmilter's syntax that was checked before.
    func openSocket(_ address: String) throws(MilterError) {
        raiseDescriptorLimit()
        var status = cmilter_setconn(address)
        if status == MI_SUCCESS { status = smfi_settimeout(configuration.timeout) }
        if status == MI_SUCCESS, let backlog = configuration.backlog { status = smfi_setbacklog(backlog) }
        guard status == MI_SUCCESS else {
            throw MilterError(.libmilter, "libmilter refuses the socket \(configuration.socket) or its backlog")
        }
        let socketMode = configuration.socketMode.map { $0 & 0o777 }
        let former = socketMode.map { umask(~$0 & 0o777) }
        status = smfi_opensocket(0)
        if let former { umask(former) }
        guard status == MI_SUCCESS else {
            throw MilterError(
                .libmilter, "libmilter can't open the socket \(configuration.socket); its reason is in the system log")
        }
        guard case .unix(let path) = configuration.socket.location else { return }
        madeSocket.withLock { $0 = SocketFile(path: path) }
        if let socketMode, chmod(path, socketMode) != 0 {
            let reason = systemMessage(errno)
            throw MilterError(.notPermitted, "socket \(path): its permissions can't be set: \(reason)")
        }
    }

    /// Removes the unix socket, if it is still the one that was made: libmilter leaves it when it runs as root.
    func removeSocket() {
        madeSocket.withLock { file in
            if let made = file, let now = SocketFile(path: made.path), now.device == made.device,
                now.inode == made.inode
            {
                unlink(made.path)
            }
            file = nil
        }
    }

    /// Lets the process have as many connections as it may: libmilter spins while none can be taken.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
