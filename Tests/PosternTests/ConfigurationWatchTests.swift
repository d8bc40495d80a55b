import TestSupport
import Testing

@testable import postern

@Suite struct ConfigurationWatchTests {
    private let folder: TemporaryFolder
    private let start = ContinuousClock.now

    init() throws { folder = try TemporaryFolder() }

    private func stamps() -> [ConfigurationStamp] {
        ["postern.toml", "domains"].map { ConfigurationStamp(folder.file($0)) }
    }

    private func isDue(_ watch: inout ConfigurationWatch, _ seconds: Double) -> Bool {
        watch.isDue(now: start + .seconds(seconds))
    }

    @Test func changeIsDueWhenTheFilesStayUnchanged() throws {
        try folder.write("a", as: "postern.toml")
        var watch = ConfigurationWatch(stamps())
        #expect(isDue(&watch, 0) == false)
        #expect(isDue(&watch, 100) == false)

        try folder.write("b", as: "postern.toml")
        #expect(isDue(&watch, 200) == false)
        #expect(isDue(&watch, 200.9) == false)
        // Still being written.
        try folder.write("bc", as: "postern.toml")
        #expect(isDue(&watch, 201) == false)
        #expect(isDue(&watch, 201.9) == false)
        #expect(isDue(&watch, 202) == true)
    }

    @Test func `each change of the files causes one reload`() throws {
        try folder.write("a", as: "postern.toml")
        var watch = ConfigurationWatch(stamps())
        try folder.write("b", as: "postern.toml")
        #expect(isDue(&watch, 0) == false)
        #expect(isDue(&watch, 1) == true)
        watch.settle(watch.current)
        #expect(isDue(&watch, 2) == false)
        #expect(isDue(&watch, 10) == false)
        // The second file changes while the state of the first is handled.
        let earlier = watch.current
        try folder.write("x", as: "domains")
        watch.settle(earlier)
        #expect(isDue(&watch, 11) == false)
        #expect(isDue(&watch, 12) == true)
    }

    @Test func newFileIsAChange() throws {
        try folder.write("a", as: "postern.toml")
        var watch = ConfigurationWatch(stamps())
        try folder.write("x", as: "domains")
        #expect(isDue(&watch, 0) == false)
        #expect(isDue(&watch, 1) == true)
    }
}
