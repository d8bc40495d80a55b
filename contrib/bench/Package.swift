// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that what the measurements need never reaches those who build Postern.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "postern-bench",
    targets: [
        .executableTarget(name: "postern-bench", swiftSettings: settings),
        // What a filter that decides nothing costs, on the same libmilter.
        .executableTarget(name: "noop-filter", linkerSettings: [.linkedLibrary("milter")]),
    ],
    swiftLanguageModes: [.v6]
)
