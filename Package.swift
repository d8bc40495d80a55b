// swift-tools-version: 6.2
import PackageDescription

/// `POSTERN_STRICT=1`, as `contrib/test` sets it, turns every warning into an error; a user's newer compiler may warn of
/// more and still builds.
let strict: [SwiftSetting] =
    Context.environment["POSTERN_STRICT"] == "1" ? [.treatAllWarnings(as: .error)] : []

let settings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ] + strict

let package = Package(
    name: "postern",
    products: [
        .executable(name: "postern", targets: ["postern"]),
        .library(name: "Milter", targets: ["Milter"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/LebJe/TOMLKit", exact: "0.6.0"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", exact: "2.1.1"),
        .package(url: "https://github.com/swhitty/FlyingFox", exact: "0.27.1"),
    ],
    targets: [
        .systemLibrary(name: "CMilter", pkgConfig: "milter", providers: [.apt(["libmilter-dev"])]),
        .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
        .systemLibrary(name: "CLDAP", pkgConfig: "ldap", providers: [.apt(["libldap-dev", "libsasl2-dev"])]),
        .systemLibrary(name: "CGnuTLS", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),

        .target(name: "System", swiftSettings: settings),
        .target(name: "Milter", dependencies: ["CMilter", "System"], swiftSettings: settings),
        .target(name: "MailAddress", dependencies: ["CIDN2"], swiftSettings: settings),
        .target(name: "RecipientIndex", dependencies: ["System"], swiftSettings: settings),
        .target(
            name: "DirectorySync",
            dependencies: [
                "CGnuTLS", "CLDAP", "MailAddress", "RecipientIndex", "System",
                .product(name: "GRDB", package: "GRDB.swift"),
            ], swiftSettings: settings),
        .target(
            name: "RejectionLog",
            dependencies: [
                "System", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Mustache", package: "swift-mustache"),
            ], swiftSettings: settings),
        .target(
            name: "RecipientFilter",
            dependencies: ["MailAddress", "Milter", "RecipientIndex", "RejectionLog", "System"], swiftSettings: settings),
        .target(
            name: "Monitoring", dependencies: ["System", .product(name: "FlyingFox", package: "FlyingFox")],
            swiftSettings: settings),
        .executableTarget(
            name: "postern",
            dependencies: [
                "DirectorySync", "MailAddress", "Milter", "Monitoring", "RecipientFilter", "RecipientIndex",
                "RejectionLog", "System",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ], swiftSettings: settings),

        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: settings),
        // The filter that MilterTests talks to: libmilter has one a process.
        .executableTarget(
            name: "MilterTestFilter", dependencies: ["Milter"], path: "Tests/MilterTestFilter", swiftSettings: settings),
        .testTarget(
            name: "SystemTests", dependencies: ["System", "TestSupport"],
            exclude: ["addresses.cases", "networks.cases"], swiftSettings: settings),
        .testTarget(
            name: "MilterTests", dependencies: ["Milter", "MilterTestFilter", "TestSupport"],
            exclude: ["sockets.cases"], swiftSettings: settings),
        .testTarget(
            name: "MailAddressTests", dependencies: ["MailAddress", "TestSupport"],
            exclude: ["paths.cases", "domains.cases", "details.cases", "rewritten.cases"], swiftSettings: settings),
        .testTarget(
            name: "RecipientIndexTests", dependencies: ["RecipientIndex", "TestSupport"],
            exclude: ["IndexHeader.cases", "RecipientFlags.cases", "SipHash.cases", "XXHash64.cases"],
            swiftSettings: settings),
        .testTarget(
            name: "DirectorySyncTests",
            dependencies: [
                "DirectorySync", "MailAddress", "RecipientFilter", "RecipientIndex", "System", "TestSupport",
                .product(name: "GRDB", package: "GRDB.swift"),
            ], exclude: ["judge.cases", "ldap.cases", "list.cases", "postfix.cases", "sendmail.cases"],
            swiftSettings: settings),
        .testTarget(
            name: "RejectionLogTests",
            dependencies: ["RejectionLog", "System", "TestSupport", .product(name: "GRDB", package: "GRDB.swift")],
            exclude: [
                "hostile.cases", "nearmisses.cases", "replies.cases", "report.cases", "report.txt", "senders.cases",
                "time.cases",
            ], swiftSettings: settings),
        .testTarget(
            name: "RecipientFilterTests",
            dependencies: [
                "MailAddress", "Milter", "RecipientFilter", "RecipientIndex", "RejectionLog", "System", "TestSupport",
            ],
            exclude: ["verdicts.cases", "replies.cases", "patterns.cases"], swiftSettings: settings),
        .testTarget(
            name: "MonitoringTests", dependencies: ["Monitoring", "System", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "PosternTests",
            dependencies: [
                "DirectorySync", "MailAddress", "Milter", "RecipientFilter", "RejectionLog", "TestSupport", "postern",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["configuration.cases"], swiftSettings: settings),
        .testTarget(
            name: "IntegrationTests",
            dependencies: ["RecipientIndex", "TestSupport", "postern", .product(name: "GRDB", package: "GRDB.swift")],
            exclude: [
                "conversation.cases", "international.cases", "sendmail-tables.cases", "sendmail.cases",
                "smtputf8.cases",
                "Directory/controller.py", "Directory/exchange.ldif",
            ], swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
