import Dispatch
import Foundation
import Logging
import RecipientFilter
import Synchronization
import System

/// Writes a message for each client network that reaches its harvest limit, on a thread of its own: no session waits for standard error.
final class OffenderLog: Sendable {
    private let table: HarvestTable
    private let logger: Logger
    private let stopping = SteadySemaphore()
    private let ended = SteadySemaphore()
    private let total = Atomic<Int>(0)

    /// How many offenders there were.
    var count: Int { total.load(ordering: .relaxed) }

    /// A log of the table's offenders; ``start()`` starts it.
    init(_ table: HarvestTable, _ logger: Logger) {
        self.table = table
        self.logger = logger
    }

    /// Starts the thread.
    func start() {
        NamedThread.start("offenders") { [self] in
            while !stopping.wait(within: .milliseconds(500)) { write() }
            write()
            ended.signal()
        }
    }

    /// Writes the messages that are left, and ends the thread.
    func stop() {
        stopping.signal()
        ended.wait()
    }

    private func write() {
        let (offenders, omitted) = table.drainOffenders()
        total.add(offenders.count + omitted, ordering: .relaxed)
        for offender in offenders { logger.warning("\(Self.message(offender))") }
        if omitted > 0 {
            let verb = omitted == 1 ? "has" : "have"
            logger.warning("harvest: \(Words.count(omitted, "more network")) \(verb) reached the limit")
        }
    }

    /// The message about an offender.
    static func message(_ offender: HarvestTable.Offender) -> String {
        let client = offender.network?.shortDescription ?? "the MTA's own machine"
        let window = Words.duration(seconds: offender.limit.window)
        return "harvest: \(client) has reached \(Words.count(offender.limit.limit, "unknown recipient")) in \(window): "
            + "deferred until the window clears"
    }
}
