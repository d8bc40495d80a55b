import Foundation
import RecipientIndex
import RecipientSync
import RejectionLog
import System

/// What `postern status` shows: the running filter, its index, its sync and its log.
package struct StatusReport: Encodable {
    /// The running filter.
    struct Filter: Encodable {
        /// Its process; nil if none runs, 0 if it is in a container out of sight.
        var process: Int?
        /// What it is doing; nil if it can't be asked.
        var live: FilterStatus?
        /// As configured.
        var socket: String
        var mode: String
        var http: String?
    }

    /// The rejection log.
    struct Log: Encodable {
        var path: String
        /// In bytes; 0 if there is none.
        var size: Int
        /// nil if it can't be read.
        var lastHour: RejectionReader.Verdicts?
        var today: RejectionReader.Verdicts?
    }

    /// What an administrator should look at, gravest first.
    package private(set) var troubles: [Trouble] = []
    /// What an administrator should know of the configuration though it is valid.
    private(set) var notices: [String]
    private(set) var filter: Filter
    private(set) var index: FilterStatus.Index?
    private(set) var sync: SyncStatus?
    private(set) var log: Log
    /// Whether a filter may be running though it can't be asked.
    private(set) var mayRun = false

    private enum CodingKeys: String, CodingKey {
        case troubles, notices, filter, index, sync, log
    }

    /// The status of now: asks the running filter, and reads the index file, the sync state and the log.
    package init(_ settings: MonitoringSettings) {
        filter = Filter(socket: settings.socket, mode: settings.mode, http: settings.http)
        log = Log(path: settings.logDatabase, size: settings.logSize)
        notices = settings.notices
        askFilter(settings)
        readIndex(settings)
        if !settings.sources.isEmpty { sync = SyncStatus(state: settings.syncState) }
        troubles += Trouble.all(
            settings, parts: filter.live?.parts ?? [], index: index,
            // readIndex(_:) has said what is wrong with the file.
            isIndexExpected: false, sync: sync)
        readLog(settings)
        if filter.live?.user == 0 { notices.append(FilterStatus.rootNotice) }
    }

    private mutating func askFilter(_ settings: MonitoringSettings) {
        do {
            let client = try ControlClient(database: settings.logDatabase)
            filter.process = Int(client.process)
            filter.live = client.status()
            if filter.live == nil {
                troubles.append(
                    Trouble(
                        text: "the filter, process \(client.process), doesn't answer",
                        advice: "see its messages, and whether it is of this version"))
            }
        } catch {
            mayRun = error.kind != .notRunning
            troubles.append(
                mayRun
                    ? Trouble(text: "the filter can't be asked: \(error)", advice: "run postern status as root")
                    : Trouble(
                        text: "no filter is running: the MTA handles mail as it is configured for that case",
                        advice: "start it: systemctl start postern, or postern serve"))
        }
    }

    private mutating func readIndex(_ settings: MonitoringSettings) {
        do {
            index = .init(try IndexInfo(path: settings.indexPath), path: settings.indexPath)
        } catch {
            // The running filter says so itself.
            if filter.live?.parts.contains(where: { $0.part == .index && !$0.works }) == true { return }
            troubles.append(
                Trouble(
                    text: "the index can't be used: \(error)",
                    advice: (filter.live?.index == nil ? "" : "the filter goes on with the one in memory; ")
                        + (settings.sources.isEmpty
                            ? "copy it here from the machine where postern sync makes it"
                            : "make it anew: postern sync --once")))
        }
    }

    private mutating func readLog(_ settings: MonitoringSettings) {
        do {
            let reader = try RejectionReader(path: settings.logDatabase)
            let now = Date()
            log.lastHour = try reader.verdicts(since: now.addingTimeInterval(-3600), until: now)
            log.today = try reader.verdicts(since: Calendar.current.startOfDay(for: now), until: now)
        } catch {
            // The filter makes the log at its first start, and says itself what is wrong with it.
            if error.code == .notFound || filter.live?.log.failing == true { return }
            troubles.append(
                Trouble(text: "\(error)", advice: "see who owns it: ls -l \(settings.logDatabase)*"))
        }
    }
}
