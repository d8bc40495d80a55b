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
        // Postern's own filter with nowhere to log to.
        .executableTarget(
            name: "unlogged-filter", dependencies: ["MailAddress", "Milter", "RecipientFilter", "RecipientIndex"],
            swiftSettings: settings),
        // Links to Postern's own, with the dependencies that they have there: these modules aren't among its products.
        .target(name: "System", swiftSettings: settings),
        .target(name: "RecipientIndex", dependencies: ["System"], swiftSettings: settings),
        .target(
            name: "RecipientFilter", dependencies: ["MailAddress", "Milter", "RecipientIndex"], swiftSettings: settings),
        .target(name: "MailAddress", dependencies: ["CIDN2"], swiftSettings: settings),
        .target(name: "Milter", dependencies: ["CMilter", "System"], swiftSettings: settings),
        .systemLibrary(name: "CMilter", pkgConfig: "milter", providers: [.apt(["libmilter-dev"])]),
        .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CCDB", pkgConfig: "libcdb", providers: [.apt(["libcdb-dev"])]),
        // What a filter that decides nothing costs, on the same libmilter.
        .executableTarget(name: "noop-filter", linkerSettings: [.linkedLibrary("milter")]),
    ],
    swiftLanguageModes: [.v6]
)
