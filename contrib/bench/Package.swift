// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that a build of Postern doesn't need the dependencies of the measurements.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "postern-bench",
    dependencies: [.package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0")],
    targets: [
        .executableTarget(
            name: "postern-bench", dependencies: ["CCDB", "CLMDB", "RecipientIndex"], swiftSettings: settings),
        // Postern's filter without a log.
        .executableTarget(
            name: "unlogged-filter", dependencies: ["MailAddress", "Milter", "RecipientFilter", "RecipientIndex"],
            swiftSettings: settings),
        // Symbolic links to the modules of Postern, with the same dependencies: they are no products of its package.
        .systemLibrary(name: "CSystem"),
        .target(name: "System", dependencies: ["CSystem"], swiftSettings: settings),
        .target(name: "RecipientIndex", dependencies: ["System"], swiftSettings: settings),
        .target(
            name: "RecipientFilter",
            dependencies: ["MailAddress", "Milter", "RecipientIndex", "RejectionLog", "System"],
            swiftSettings: settings),
        .target(
            name: "RejectionLog", dependencies: ["System", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings),
        .target(name: "MailAddress", dependencies: ["CIDN2"], swiftSettings: settings),
        .target(name: "Milter", dependencies: ["CMilter", "System"], swiftSettings: settings),
        .systemLibrary(name: "CMilter", pkgConfig: "milter", providers: [.apt(["libmilter-dev"])]),
        .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CCDB", pkgConfig: "libcdb", providers: [.apt(["libcdb-dev"])]),
        // A filter that decides nothing, on the same libmilter.
        .executableTarget(name: "noop-filter", linkerSettings: [.linkedLibrary("milter")]),
    ],
    swiftLanguageModes: [.v6]
)
