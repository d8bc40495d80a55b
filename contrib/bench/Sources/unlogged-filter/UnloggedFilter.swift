import Foundation
import Glibc
import Milter
import RecipientFilter
import RecipientIndex

/// `unlogged-filter SOCKET INDEX`: Postern's filter for example.com without a log, to measure what a recipient costs without it.
@main enum UnloggedFilter {
    static func main() throws {
        guard CommandLine.arguments.count == 3 else {
            FileHandle.standardError.write(Data("usage: unlogged-filter SOCKET INDEX\n".utf8))
            exit(64)
        }
        var settings = Policy.Settings()
        settings.addDomain("example.com")
        settings.indexExpected = true
        settings.harvest.limit = 0
        let context = FilterContext(
            policy: HotSwap(Policy(settings)), index: HotSwap(try IndexSnapshot(path: CommandLine.arguments[2])),
            harvest: HarvestTable(), log: nil)
        let server = MilterServer(
            MilterConfiguration(
                name: "unlogged-filter", socket: try MilterSocket(CommandLine.arguments[1]),
                macros: FilterContext.macros)
        ) { connection, milter in context.session(connection, milter) }
        try server.open()
        try server.run()
    }
}
