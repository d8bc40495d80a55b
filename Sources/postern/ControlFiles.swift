import Dispatch
import Foundation
import Monitoring
import Synchronization
import System

/// What `postern reload` and `postern status` find the running filter by: its ``ServiceFile`` and its ``StatusSocket``, both beside the log.
///
/// A folder that can't be written costs these two commands, not the filter: what can't be made is tried again.
final class ControlFiles: Sendable {
    /// Seconds between two tries.
    private static let interval = 10

    private struct State {
        var file: ServiceFile.Holder?
        var reloads = ServiceFile.Reloads()
    }

    private let database: String
    private let socket: StatusSocket.Holder
    private let health: ServiceHealth
    private let tick: @Sendable () -> Void
    private let state = Mutex(State())
    private let stopping = SteadySemaphore()

    /// Makes the file and the socket, as far as that is possible.
    ///
    /// - Parameter tick: called every few seconds, for what else is to be looked at now and then.
    /// - Throws: where another filter holds the file: two can't have the same log.
    init(
        database: String, _ health: ServiceHealth, tick: @escaping @Sendable () -> Void,
        figures: @escaping @Sendable () -> FilterFigures
    ) throws(ServiceFile.Failure) {
        self.tick = tick
        self.database = database
        self.health = health
        let (file, failure) = try Self.makeFile(database, ServiceFile.Reloads())
        state.withLock { $0.file = file }
        socket = StatusSocket.Holder(database: database, figures)
        report(failure)
    }

    /// Starts to answer, and to try again what couldn't be made.
    func start() {
        socket.start()
        NamedThread.start("control") { [self] in
            while !stopping.wait(within: .seconds(Self.interval)) {
                tryAgain()
                tick()
            }
        }
    }

    /// Removes the socket; the file stays, unlocked.
    func stop() {
        stopping.signal()
        socket.stop()
    }

    /// Says what is to be known of reloads.
    func write(_ reloads: ServiceFile.Reloads) {
        state.withLock { state in
            state.reloads = reloads
            state.file?.write(reloads)
        }
    }

    private static func makeFile(
        _ database: String, _ reloads: ServiceFile.Reloads
    ) throws(ServiceFile.Failure) -> (ServiceFile.Holder?, ServiceFile.Failure?) {
        do throws(ServiceFile.Failure) {
            return (try ServiceFile.Holder(database: database, reloads), nil)
        } catch {
            if error.isHeld { throw error }
            return (nil, error)
        }
    }

    private func tryAgain() {
        let failure = state.withLock { state -> ServiceFile.Failure? in
            guard state.file == nil else { return nil }
            do throws(ServiceFile.Failure) {
                state.file = try ServiceFile.Holder(database: database, state.reloads)
                return nil
            } catch { return error }
        }
        report(failure)
    }

    private func report(_ failure: ServiceFile.Failure?) {
        let hasSocket = socket.makeFile()
        guard failure != nil || !hasSocket else { return health.report(.control, nil) }
        let reason = failure?.description ?? "\(StatusSocket.path(database: database)): the socket can't be made"
        health.report(
            .control,
            PartFailure(
                reason: reason,
                advice:
                    "make \(folder(of: database)) writable for the filter; until then reload with kill -USR1 \(getpid())",
                nextTry: Date() + TimeInterval(Self.interval)))
    }
}
