// The filter that the tests of Milter talk to, a process of its own.
//
// Arguments: the socket, then the options of makeServer(socket:options:). Standard output says `ready` when
// MTAs may connect, `reload` for each SIGUSR1, and `verdicts N drained` or `verdicts N late` at the end. It ends with
// status 0 after SIGTERM or SIGINT, with 69, 77 or 78 when it can't start, and when the test that started it is gone.

import Glibc
import Milter
import Synchronization

try MilterSignals.prepare()
let arguments = CommandLine.arguments
guard arguments.count >= 2 else { fatalError("usage: MilterTestFilter SOCKET [OPTION...]") }
do {
    let server = try makeServer(socket: arguments[1], options: arguments.dropFirst(2))
    MilterSignals.arm()
    try server.open()
    startThreads(server)
    say("ready")
    while true {
        switch MilterSignals.wait() {
        case .reload: say("reload")
        case .request(let number): say("request \(number)")
        case .terminate, .interrupt:
            let isDrained = server.drain(timeout: .seconds(10))
            say("verdicts \(Counters.shared.verdicts.load(ordering: .relaxed)) \(isDrained ? "drained" : "late")")
            _exit(0)
        }
    }
} catch let error as MilterError {
    complain("\(error)")
    switch error.kind {
    case .inUse: exit(69)
    case .notPermitted: exit(77)
    default: exit(78)
    }
}
