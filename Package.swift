// swift-tools-version: 6.0
import PackageDescription

// Intel's multi-buffer library is for x86-64 only; elsewhere OpenSSL does all of ESP.
#if arch(x86_64)
let ipsecMB: [LinkerSetting] = [.linkedLibrary("IPSec_MB")]
#else
let ipsecMB: [LinkerSetting] = []
#endif

let package = Package(
    name: "ndbpf",
    products: [
        .executable(name: "ndbpf", targets: ["ndbpf"]),
        .library(name: "NDFilterEngine", targets: ["NDFilterEngine"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.80.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    ],
    targets: [
        .target(name: "NDCore"),
        .target(name: "CNDABI"),
        .target(name: "NDABI", dependencies: ["CNDABI", "NDCore"]),
        .target(name: "CNDABI6"),
        .target(name: "CNDObjects"),
        .target(name: "CNDSystem"),
        .target(name: "CLibbpf"),
        .target(
            name: "NDDatapath",
            dependencies: ["NDABI", "NDCore", "CNDABI", "CNDABI6", "CNDObjects", "CNDSystem", "CLibbpf"]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .target(name: "NDCrypto", dependencies: ["COpenSSL", "NDCore"]),
        .target(name: "NDWire", dependencies: ["NDCore"]),
        .target(name: "NDKeying", dependencies: ["NDCore", "NDCrypto", "NDWire"]),
        .target(name: "NDPolicy", dependencies: ["NDABI", "NDCore", "CNDABI", "Yams"]),
        .target(name: "NDFilterEngine", dependencies: ["NDCore", "NDPolicy"]),
        .executableTarget(
            name: "NegotiationDiscoveryExample", dependencies: ["NDFilterEngine"], path: "docs/filter-engine"),
        .target(name: "NDDiscovery", dependencies: ["NDCore"]),
        .target(name: "NDTelemetry", dependencies: ["NDCore", "CNDABI"]),
        .target(
            name: "CESP",
            cSettings: [.unsafeFlags(["-O3"])],
            linkerSettings: ipsecMB),
        .target(name: "CNetlink"),
        .target(name: "NDEngine", dependencies: ["NDCore", "CNDABI", "CESP", "CNetlink"]),
        .target(name: "CNDLab"),
        .target(name: "NDLab", dependencies: ["NDCore", "NDPolicy", "CNDLab", "CNDObjects", "CNDSystem", "Yams"]),
        .target(
            name: "NDDaemon",
            dependencies: [
                "NDABI", "NDCore", "NDDatapath", "NDDiscovery", "NDEngine", "NDKeying", "NDPolicy", "NDTelemetry", "CNDSystem",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]),
        .target(name: "NDInterop", dependencies: ["NDCore", "NDDaemon", "NDDatapath", "NDLab", "NDPolicy"]),
        .executableTarget(
            name: "ndinterop",
            dependencies: [
                "CNDSystem", "NDCore", "NDInterop", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .target(name: "NDTorture", dependencies: ["NDCore", "NDLab", "CNDLab"]),
        .executableTarget(
            name: "ndtorture",
            dependencies: [
                "CNDSystem", "NDCore", "NDTorture", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "ndbpf",
            dependencies: [
                "NDABI", "NDCore", "NDDaemon", "NDDatapath", "NDDiscovery", "NDEngine", "NDLab", "NDPolicy", "NDTelemetry",
                "CESP", "CNDABI", "CNDSystem",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]),
        .testTarget(name: "NDCryptoTests", dependencies: ["NDCrypto", "NDCore"], exclude: ["Fixtures"]),
        .testTarget(name: "NDWireTests", dependencies: ["NDWire", "NDCore"]),
        .testTarget(
            name: "NDKeyingTests", dependencies: ["NDKeying", "NDWire", "NDCrypto", "NDCore"], exclude: ["Fixtures"]),
        .testTarget(name: "NDPolicyTests", dependencies: ["NDPolicy", "NDCore", "CNDABI"]),
        .testTarget(name: "NDFilterEngineTests", dependencies: ["NDFilterEngine", "NegotiationDiscoveryExample"]),
        .testTarget(name: "NDDiscoveryTests", dependencies: ["NDDiscovery", "NDCore"]),
        .testTarget(name: "NDTelemetryTests", dependencies: ["NDTelemetry", "NDCore", "CNDABI"]),
        .testTarget(name: "NDEngineTests", dependencies: ["NDEngine", "NDCore", "CESP", "CNDABI", "CNetlink"]),
        .testTarget(
            name: "NDDatapathTests",
            dependencies: ["NDABI", "NDDatapath", "NDPolicy", "NDCore", "CNDABI", "CNDABI6", "CNDObjects", "CLibbpf", "CNDSystem"]),
        .testTarget(name: "NDDaemonTests", dependencies: ["NDDaemon", "NDCore", "NDPolicy", "NDTelemetry"]),
        .testTarget(name: "ScenarioTests", dependencies: ["CNDLab", "NDDatapath", "NDLab", "NDPolicy", "NDCore", "ndbpf"]),
        .testTarget(name: "GuestTests", dependencies: ["NDDatapath", "NDInterop", "NDLab", "NDCore", "ndbpf", "ndinterop"]),
        .testTarget(name: "TortureTests", dependencies: ["NDTorture", "NDLab", "NDCore", "ndbpf"]),
    ],
    swiftLanguageModes: [.v6]
)
