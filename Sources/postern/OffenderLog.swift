import Dispatch
import Foundation
import Logging
import RecipientFilter
import Synchronization
import System

/// Writes a line for each client network that has reached its harvest limit, on a thread of its own: the sessions that
/// find out must not wait for whoever reads the messages.
final class OffenderLog: Sendable {
    private let table: HarvestTable
    private let logger: Logger
    private let stopping = SteadySemaphore()
    private let ended = SteadySemaphore()
    private let seen = Atomic<Int>(0)

    /// How many offenders there were.
    var count: Int { seen.load(ordering: .relaxed) }

    /// A log of this table's offenders, which starts with ``start()``.
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

    /// Writes what is left and ends the thread.
    func stop() {
        stopping.signal()
        ended.wait()
    }

    private func write() {
        let (offenders, untold) = table.takeOffenders()
        seen.add(offenders.count + untold, ordering: .relaxed)
        for offender in offenders { logger.warning("\(Self.line(offender))") }
        if untold > 0 { logger.warning("harvest: \(Words.count(untold, "more network")) reached the limit") }
    }

    /// The line for an offender.
    static func line(_ offender: HarvestTable.Offender) -> String {
        let client = offender.network?.shortDescription ?? "the MTA's own machine"
        let window = Words.duration(seconds: offender.limit.window)
        return "harvest: \(client) has reached \(Words.count(offender.limit.limit, "unknown recipient")) in \(window): "
            + "deferred until the window clears"
    }
}
