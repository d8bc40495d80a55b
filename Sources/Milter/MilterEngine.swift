import CMilter
import Glibc
import Synchronization
import System

/// libmilter's engine: the description of a filter that it calls, and the proof that it does what the server counts on.
enum MilterEngine {
    /// A description for good, whose name libmilter's complaints to syslog bear.
    static func makeFilter(name: String) -> UnsafeMutablePointer<smfiDesc> {
        let filter = UnsafeMutablePointer<smfiDesc>.allocate(capacity: 1)
        filter.initialize(
            to: smfiDesc(
                xxfi_name: strdup(name), xxfi_version: Int32(SMFI_VERSION), xxfi_flags: UInt(SMFIF_SETSYMLIST),
                xxfi_connect: connectCallback, xxfi_helo: heloCallback, xxfi_envfrom: mailCallback,
                xxfi_envrcpt: recipientCallback, xxfi_header: nil, xxfi_eoh: nil, xxfi_body: nil, xxfi_eom: nil,
                xxfi_abort: abortCallback, xxfi_close: closeCallback, xxfi_unknown: nil, xxfi_data: nil,
                xxfi_negotiate: negotiateCallback))
        return filter
    }

    /// What the MTA needn't do for this filter: no answer but to RCPT, no message; but tell of what it refused itself.
    ///
    /// The engine answers in the filter's place where an MTA wants an answer to connect, HELO or MAIL all the same.
    static let wantedSteps = UInt(
        SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NODATA | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY
            | SMFIP_NOUNKNOWN | SMFIP_RCPT_REJ)

    private static let checked = Mutex<Result<Void, MilterError>?>(nil)

    /// Throws unless libmilter's engine calls the packet functions of the server, goes on after a pause and has the known layout.
    ///
    /// A short conversation without a socket shows it: negotiation, a pause, macros and a connection.
    static func check() throws(MilterError) {
        let result = checked.withLock { checked in
            let result = checked ?? Result { () throws(MilterError) in try runCheck() }
            checked = result
            return result
        }
        try result.get()
    }

    private final class Probe: MilterSession {
        func recipient(
            _ context: borrowing MilterContext, arguments: borrowing MilterArguments
        ) -> MilterResponse { .reject }
    }

    private static func runCheck() throws(MilterError) {
        let isSound = Atomic<Bool>(false)
        let server = MilterServer(
            MilterConfiguration(name: "check", socket: .nowhere)
        ) { connection, context in
            // The macro shows that its list is where it is looked for, the pointer that the rest is.
            let isMacroRight = context.macro("j").map { Array($0) == Array("host".utf8) } ?? false
            let marker = UnsafeMutableRawPointer(context.handle)
            smfi_setpriv(context.handle, marker)
            let isLayoutRight = cmilter_knows(context.handle, marker) != 0
            smfi_setpriv(context.handle, nil)
            isSound.store(
                isMacroRight && isLayoutRight && connection.address == IPAddress(ipv4: 0xc000_0201), ordering: .relaxed)
            return Probe()
        }
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            bytes.withMemoryRebound(to: Int32.self) {
                socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0.baseAddress)
            }
        }
        guard status == 0 else { throw MilterError(.unusable, "milter: no descriptor: \(systemMessage())") }
        defer { for end in [ends.0, ends.1] { close(end) } }
        let isRight = try server.converse(
            ends.0, ends.1,
            [
                // Version 6, SMFIF_SETSYMLIST, all steps.
                packet("O", [0, 0, 0, 6, 0, 0, 1, 0, 0, 0x1f, 0xff, 0xff]),
                packet("D", Array("Cj\0host\0".utf8)),
                packet("C", Array("h\u{0}4\u{0}\u{19}192.0.2.1\0".utf8)),
            ])
        guard isRight, isSound.load(ordering: .relaxed) else {
            throw MilterError(
                .libmilter,
                "libmilter: this version of the library can't be used; accepted: 8.14 to 8.18 with the worker pool, as Debian has it"
            )
        }
    }

    private static func packet(_ command: Unicode.Scalar, _ data: [UInt8]) -> [UInt8] {
        [0, 0, 0, UInt8(truncatingIfNeeded: data.count + 1), UInt8(ascii: command)] + data
    }
}
