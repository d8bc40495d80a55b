import Foundation

/// Changes of a directory's data while the server is stopped.
extension SlapdInstance {
    /// Does something while it is stopped, and starts it again.
    func stopped(_ work: () throws -> Void) throws {
        stop()
        try work()
        try start()
    }

    /// Keeps a copy of the data.
    func saveData(as name: String) throws { try copy(dataFolder, to: "\(dataFolder)-\(name)") }

    /// Puts a copy of the data in the place of the present ones.
    func restoreData(_ name: String) throws {
        try FileManager.default.removeItem(atPath: dataFolder)
        try copy("\(dataFolder)-\(name)", to: dataFolder)
    }

    /// With cp(1), to which a hole in a file isn't a gigabyte of zeros.
    private func copy(_ folder: String, to copy: String) throws {
        let result = try workspace.run("/bin/cp", ["-a", folder, copy])
        guard result.ending == .exited(0) else { throw ChildProcess.Failure(description: "cp: \(result.error)") }
    }

    /// Replaces the entries by others, each a new object.
    func fill(with ldif: String) throws {
        try FileManager.default.removeItem(atPath: dataFolder)
        try FileManager.default.createDirectory(atPath: dataFolder, withIntermediateDirectories: false)
        try runTool("add", ["-q", "-w"], ldif)
    }

    /// The entries as the administrator sees them, without operational attributes.
    func content() throws -> String {
        let found = try administrator.run("ldapsearch", ["-LLL", "-o", "ldif_wrap=no", "-b", Self.base])
        guard found.code == 0 else { throw ChildProcess.Failure(description: "ldapsearch: \(found.error)") }
        return found.output + "\n"
    }

    /// Changes the entries in the output of slapcat(8). They keep their names and change sequence numbers, so that no
    /// client learns of it.
    func rewrite(_ change: (String) -> String) throws {
        let content = change(try runTool("cat", []))
        try FileManager.default.removeItem(atPath: dataFolder)
        try FileManager.default.createDirectory(atPath: dataFolder, withIntermediateDirectories: false)
        try runTool("add", ["-q"], content)
    }
}
