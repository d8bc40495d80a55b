import Foundation
import Glibc

/// The entries of a Postfix table that can be listed, and where Postern reads them.
struct TableContent {
    /// The text of the table; nil if there is only the database.
    var file: String?
    /// The command that lists the database, where there is no text.
    var command: [String] = []
    var entries: [(key: String, value: String)] = []
    /// Whether the text was changed after the database was made, so that Postfix doesn't know all of it yet.
    var isNewerThanDatabase = false
    /// False if the text's database is missing: Postfix can't use the table then.
    var hasDatabase = true

    /// Reads a table of an indexed type or of the type texthash.
    ///
    /// - Parameter setting: the setting that names the table, for messages.
    init(_ map: PostfixMap, namedBy setting: String, in settings: PostfixSettings) throws(MigrationError) {
        let suffix = PostfixMap.indexed[map.type]
        guard suffix != nil || map.type == "texthash" else {
            throw MigrationError(.data, "\(setting): \(map): tables of the type \"\(map.type)\" can't be listed")
        }
        // Postfix's programs work in the queue's folder.
        let path = map.name.hasPrefix("/") ? map.name : "\(settings["queue_directory"])/\(map.name)"
        let database = suffix.map { path + $0 }
        if TextFile.exists(path) {
            file = path
            let text = try TextFile.read(path, namedBy: setting)
            entries = TextFile.logicalLines(text).map { TextFile.sides($0.text) }
            if let database {
                hasDatabase = TextFile.exists(database)
                isNewerThanDatabase = hasDatabase && Self.modified(path) > Self.modified(database)
            }
            return
        }
        guard let database, TextFile.exists(database) else {
            throw MigrationError(
                .noInput,
                "\(setting): \(map): there is no \(path)\(database.map { " and no \($0)" } ?? "")")
        }
        let program = try MTAProgram.path(of: "postmap")
        command = [program, "-c", settings.folder, "-s", "\(map.type):\(path)"]
        let listed = try MTAProgram.run(program, Array(command.dropFirst()))
        guard listed.status == 0 else {
            let reason = listed.error.split(separator: "\n").last ?? "exit status \(listed.status)"
            throw MigrationError(
                .data, "\(setting): \(map): there is no \(path), and postmap can't list \(database): \(reason)")
        }
        entries = listed.output.split(separator: "\n").map { TextFile.sides(String($0)) }
    }

    private static func modified(_ path: String) -> Int {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mtim.tv_sec : 0
    }
}
