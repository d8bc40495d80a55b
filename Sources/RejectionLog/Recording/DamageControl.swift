import Dispatch
import Foundation

/// Decides when a damaged database may be moved aside for a new one: not again and again where the disk damages each.
struct DamageControl {
    /// Seconds that a new database is given before it may be moved aside too; doubled each time, up to a day.
    private var pause: TimeInterval
    private let firstPause: TimeInterval
    private var last: DispatchTime?

    init(pause: TimeInterval) {
        firstPause = pause
        self.pause = pause
    }

    /// Moves the database aside, and gives its new path; an error while it must stay.
    mutating func moveAside(_ file: LogFile, because error: LogError) throws(LogError) -> String {
        let now = Date()
        let age: TimeInterval
        if let last {
            age = Double(DispatchTime.now().uptimeNanoseconds &- last.uptimeNanoseconds) / 1e9
        } else if let newest = file.newestDamaged, newest <= now {
            // An earlier run may have done it just now.
            age = now.timeIntervalSince(newest)
        } else {
            age = .infinity
        }
        guard age >= pause else {
            throw LogError(
                .corrupt, file.path,
                "the rejection log \(file.path) is damaged again, soon after another was moved aside",
                advice: "check the disk; it is left as it is for now")
        }
        let copy = try file.moveAside(at: now)
        pause = age > 86_400 ? firstPause : min(pause * 2, 86_400)
        last = .now()
        return copy
    }
}
