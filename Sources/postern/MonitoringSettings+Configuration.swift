import Monitoring
import RecipientFilter
import RecipientSources

extension Configuration {
    /// The settings that monitoring shows.
    var monitoringSettings: MonitoringSettings {
        let observing = domains.filter(\.rules.observe).count
        return MonitoringSettings(
            version: Postern.version, socket: "\(socket)", maximumConnections: maximumConnections,
            mode: policy.observe || observing > 0 && observing == domains.count ? "observe" : "enforce",
            indexPath: index.path, maximumIndexAge: index.maximumAge, syncState: sync.state,
            sources: sync.sources.map(\.name), logDatabase: log.database, redactsLog: log.redact,
            http: httpAddress.map { "http://\($0)/" }, notices: notices)
    }
}
