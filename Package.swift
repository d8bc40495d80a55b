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
        .executable(name: "postern", targets: ["postern"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", exact: "2.1.1"),
    ],
    targets: [
        .systemLibrary(name: "CSystem"),
        .systemLibrary(name: "CMilter", pkgConfig: "milter", providers: [.apt(["libmilter-dev"])]),
        .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
        .systemLibrary(name: "CLDAP", pkgConfig: "ldap", providers: [.apt(["libldap-dev", "libsasl2-dev"])]),
        .systemLibrary(name: "CGnuTLS", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),
        .systemLibrary(name: "CMicroHTTPD", pkgConfig: "libmicrohttpd", providers: [.apt(["libmicrohttpd-dev"])]),
        // C++ over the headers of libtomlplusplus-dev: nothing to link.
        .target(name: "CTOMLPlusPlus"),

        .target(name: "System", dependencies: ["CSystem"], swiftSettings: settings),
        .target(name: "Milter", dependencies: ["CMilter", "System"], swiftSettings: settings),
        .target(name: "MailAddress", dependencies: ["CIDN2"], swiftSettings: settings),
        .target(name: "RecipientIndex", dependencies: ["System"], swiftSettings: settings),
        .target(
            name: "RecipientSources", dependencies: ["CGnuTLS", "CLDAP", "MailAddress", "RecipientIndex", "System"],
            swiftSettings: settings),
        .target(
            name: "RecipientSync",
            dependencies: [
                "MailAddress", "RecipientIndex", "RecipientSources", "System",
                .product(name: "GRDB", package: "GRDB.swift"),
            ], swiftSettings: settings),
        .target(
            name: "RejectionLog",
            dependencies: ["System", .product(name: "GRDB", package: "GRDB.swift")], swiftSettings: settings),
        .target(
            name: "RejectionReport",
            dependencies: ["RejectionLog", "System", .product(name: "Mustache", package: "swift-mustache")],
            swiftSettings: settings),
        .target(
            name: "RecipientFilter",
            dependencies: ["MailAddress", "Milter", "RecipientIndex", "RejectionLog", "System"], swiftSettings: settings
        ),
        .target(
            name: "Monitoring",
            dependencies: [
                "CMicroHTTPD", "Milter", "RecipientFilter", "RecipientIndex", "RecipientSources", "RecipientSync",
                "RejectionLog", "RejectionReport", "System",
            ], swiftSettings: settings),
        .target(
            name: "Migration", dependencies: ["MailAddress", "RecipientSources", "System"], swiftSettings: settings),
        .executableTarget(
            name: "postern",
            dependencies: [
                "CTOMLPlusPlus", "MailAddress", "Migration", "Milter", "Monitoring", "RecipientFilter",
                "RecipientIndex",
                "RecipientSources", "RecipientSync", "RejectionLog", "RejectionReport", "System",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),

        .target(name: "TestSupport", dependencies: ["System"], path: "Tests/TestSupport", swiftSettings: settings),
        // The filter that MilterTests talks to: libmilter has one a process.
        .executableTarget(
            name: "MilterTestFilter", dependencies: ["Milter", "System"], path: "Tests/MilterTestFilter",
            swiftSettings: settings),
        .testTarget(
            name: "SystemTests", dependencies: ["System", "TestSupport"],
            exclude: ["addresses.cases", "networks.cases"], swiftSettings: settings),
        .testTarget(
            name: "MilterTests", dependencies: ["Milter", "MilterTestFilter", "System", "TestSupport"],
            exclude: ["sockets.cases"], swiftSettings: settings),
        .testTarget(
            name: "MailAddressTests", dependencies: ["MailAddress", "TestSupport"],
            exclude: ["paths.cases", "domains.cases", "details.cases", "rewritten.cases"], swiftSettings: settings),
        .testTarget(
            name: "RecipientIndexTests", dependencies: ["RecipientIndex", "System", "TestSupport"],
            exclude: ["IndexHeader.cases", "RecipientFlags.cases", "SipHash.cases", "XXHash64.cases"],
            swiftSettings: settings),
        .testTarget(
            name: "RecipientSourcesTests",
            dependencies: [
                "MailAddress", "RecipientIndex", "RecipientSources", "RecipientSync", "SyncTestSupport", "System",
                "TestSupport",
            ],
            exclude: ["values.cases", "ldap.cases", "list.cases", "postfix.cases", "sendmail.cases"],
            swiftSettings: settings),
        // The part that the tests of sources and of the sync share.
        .target(
            name: "SyncTestSupport",
            dependencies: ["RecipientIndex", "RecipientSources", "RecipientSync", "TestSupport"],
            path: "Tests/SyncTestSupport", swiftSettings: settings),
        // The part that the tests of the log and of the report share.
        .target(
            name: "LogTestSupport", dependencies: ["RejectionLog", "System", "TestSupport"],
            path: "Tests/LogTestSupport",
            swiftSettings: settings),
        .testTarget(
            name: "RecipientSyncTests",
            dependencies: [
                "MailAddress", "RecipientFilter", "RecipientIndex", "RecipientSources", "RecipientSync",
                "SyncTestSupport", "System", "TestSupport", .product(name: "GRDB", package: "GRDB.swift"),
            ], swiftSettings: settings),
        .testTarget(
            name: "RejectionLogTests",
            dependencies: [
                "LogTestSupport", "RejectionLog", "System", "TestSupport",
                .product(name: "GRDB", package: "GRDB.swift"),
            ], exclude: ["replies.cases", "senders.cases"], swiftSettings: settings),
        .testTarget(
            name: "RejectionReportTests",
            dependencies: [
                "LogTestSupport", "RejectionLog", "RejectionReport", "System", "TestSupport",
                .product(name: "GRDB", package: "GRDB.swift"),
            ], exclude: ["hostile.cases", "nearmisses.cases", "report.cases", "report.txt", "time.cases"],
            swiftSettings: settings),
        .testTarget(
            name: "RecipientFilterTests",
            dependencies: [
                "MailAddress", "Milter", "RecipientFilter", "RecipientIndex", "RejectionLog", "System", "TestSupport",
            ],
            exclude: ["verdicts.cases", "replies.cases", "patterns.cases"], swiftSettings: settings),
        .testTarget(
            name: "MonitoringTests", dependencies: ["Monitoring", "System", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "MigrationTests", dependencies: ["Migration", "TestSupport"],
            exclude: [
                "filters.cases", "getadsmtp.cases", "networks.cases", "patterns.cases", "postfix.cases",
                "sendmail.cases", "sql.cases",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "PosternTests",
            dependencies: [
                "MailAddress", "Milter", "RecipientFilter", "RecipientSources", "RecipientSync", "RejectionLog",
                "RejectionReport", "TestSupport", "postern",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["configuration.cases"], swiftSettings: settings),
        .testTarget(
            name: "IntegrationTests",
            dependencies: [
                "RecipientIndex", "System", "TestSupport", "postern", .product(name: "GRDB", package: "GRDB.swift"),
            ],
            exclude: [
                "conversation.cases", "international.cases", "sendmail-tables.cases", "sendmail.cases",
                "smtputf8.cases",
                "Directory/controller.py", "Directory/exchange.ldif",
            ], swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6],
    cxxLanguageStandard: .cxx17
)
