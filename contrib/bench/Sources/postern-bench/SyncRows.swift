import Glibc

/// Measures the full sync of a directory.
struct SyncRows {
    let plan: Plan
    static let section = "Sync of OpenLDAP; reference: ldapsearch -E pr=1000 of the same"

    /// The attributes that Postern reads from each entry.
    private static let attributes = ["mail", "mailLocalAddress", "mailAlternateAddress"]

    /// Times and memory for 100,000 entries.
    func times() throws -> [Row] {
        let count = plan.scaled(100_000, quick: 5_000)
        let slapd = try Slapd(people: count)
        defer { slapd.stop() }
        let postern = try PosternInstance(plan, sources: PosternInstance.source(slapd))
        var peaks: [Double] = []
        let full = try plan.alternate(
            {
                try postern.forget()
                let ending = try postern.sync()
                peaks.append(Double(ending.peakResident))
                return ending.seconds
            }, { try slapd.search(Self.attributes).seconds })
        let unchanged = try plan.alternate(
            { try postern.sync().seconds }, { try slapd.search(Self.attributes).seconds })
        return [
            try Row(
                Self.section, "\(grouped(count)), empty state", .seconds, full.postern, reference: full.reference,
                goal: .ratioAtMost(1.5)),
            try Row(
                Self.section, "\(grouped(count)), nothing changed", .seconds, unchanged.postern,
                reference: unchanged.reference),
            try Row(Self.section, "peak memory, \(grouped(count))", .mebibytes, peaks.map { $0 / 1_048_576 }),
        ]
    }
}
