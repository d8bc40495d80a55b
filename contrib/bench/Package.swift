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
        .executableTarget(
            name: "postern-bench", dependencies: ["CCDB", "CLMDB", "RecipientIndex"], swiftSettings: settings),
        // A link to Postern's own: the module isn't among its products.
        .target(name: "RecipientIndex", swiftSettings: settings),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CCDB", pkgConfig: "libcdb", providers: [.apt(["libcdb-dev"])]),
        // What a filter that decides nothing costs, on the same libmilter.
        .executableTarget(name: "noop-filter", linkerSettings: [.linkedLibrary("milter")]),
    ],
    swiftLanguageModes: [.v6]
)
