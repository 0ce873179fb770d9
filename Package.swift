// swift-tools-version: 6.1
import PackageDescription

let package = Package(
    name: "demux",
    products: [
        .library(name: "EmulatorKit", targets: ["EmulatorKit"]),
        .library(name: "XenHost", targets: ["XenHost"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.0"),
    ],
    targets: [
        // What is not ours: the C libraries of the host.
        .systemLibrary(name: "CXen", providers: [.apt(["libxen-dev"])]),
        .systemLibrary(name: "CPixman", pkgConfig: "pixman-1", providers: [.apt(["libpixman-1-dev"])]),
        .systemLibrary(name: "CVNCServer", pkgConfig: "libvncserver", providers: [.apt(["libvncserver-dev"])]),
        .systemLibrary(name: "CGnuTLS", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),
        .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),

        // What Swift cannot import, as inline C.
        .target(name: "CIoreq"),
        .target(name: "CCommit"),
        .target(name: "CLinux"),
        .target(name: "CSurface"),
        .target(name: "CKVM"),

        .target(name: "Platform", dependencies: ["CLinux"]),
        // What a coordinator and its keeper say to each other.
        .target(name: "Keeping", dependencies: ["CLinux", "Platform"]),
        .target(name: "Host", dependencies: ["CIoreq", "Platform"]),
        .target(name: "EmulatorProtocol", dependencies: ["Host", "Platform"]),
        .target(name: "XenHost", dependencies: ["Host", "Platform", "CXen"]),
        .target(name: "LocalHost", dependencies: ["Host", "Platform", "CIoreq"]),
        // The unplug ports as a value: what a guest says there, and what it means.
        .target(name: "Unplug", dependencies: ["EmulatorProtocol", "Host"]),
        .target(name: "EmulatorKit", dependencies: ["Host", "Platform", "EmulatorProtocol", "CIoreq", "CCommit"]),
        .target(
            name: "Coordinator",
            dependencies: [
                "CIoreq", "Host", "Platform", "Keeping", "EmulatorProtocol", "Specification", "ControlProtocol", "Surface", "Unplug", "Watch",
                .product(name: "Logging", package: "swift-log"),
            ]),

        // A scan-out in shared memory: the display writes it, exporters and screenshots read it.
        .target(name: "Surface", dependencies: ["CSurface", "CLinux", "Platform"]),
        // The standard VGA as a value that knows no host.
        .target(name: "VGA", dependencies: ["CPixman"]),
        // An NVMe controller as a value that knows no host.
        .target(name: "NVMe"),
        // What a VNC server says before and around libvncserver: handshakes, security, WebSocket, comparison of tiles.
        .target(name: "RFB", dependencies: ["Platform"]),
        // Pictures of surfaces, as PNG.
        .target(name: "Picture", dependencies: ["CPNG", "Surface", "Platform"]),
        // LocalHost's vCPUs on KVM.
        .target(name: "LocalCPU", dependencies: ["LocalHost", "Host", "Platform", "CKVM"]),

        .target(name: "Toolstack", dependencies: ["Host", "Platform", "CLinux", "EmulatorProtocol", "Unplug"]),

        // What a person writes, and what the command and the coordinator say to each other.
        .target(name: "Specification", dependencies: ["Host", "EmulatorProtocol"]),
        .target(name: "ControlProtocol", dependencies: ["CLinux", "Surface", "EmulatorProtocol", "Host", "Platform", "Specification"]),
        // Only the short-lived command reads YAML: Yams brings Foundation.
        .target(name: "SpecificationFile", dependencies: ["Specification", "Unplug", "Yams"]),

        // Whether emulators go on with what waits for them: the watchdog's part that needs no Xen.
        .target(name: "Watch", dependencies: ["ControlProtocol", "Host", "Platform"]),
        // One a host: looks at every emulator's slots.
        .executableTarget(name: "demux-watchdog", dependencies: ["CLinux", "Watch", "Host", "Platform", "XenHost"]),

        // What emulators and guests do, in words, tables and the formats of other programs.
        .target(name: "Seeing", dependencies: ["ControlProtocol", "Host"]),

        .executableTarget(
            name: "demux",
            dependencies: [
                "Seeing", "Picture", "Surface", "ControlProtocol", "EmulatorProtocol", "Host", "Keeping", "Platform", "CLinux", "Specification", "SpecificationFile",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "demux-dm", dependencies: ["Coordinator", "ControlProtocol", "EmulatorProtocol", "Keeping", "LocalCPU", "LocalHost", "XenHost", "Toolstack", "Unplug"]),

        // What the toolstack takes for the device model: it holds what a coordinator's successor needs.
        .executableTarget(name: "demux-keeper", dependencies: ["CLinux", "Keeping", "Platform"]),

        .executableTarget(name: "demux-scratch", dependencies: ["EmulatorKit", "XenHost"], path: "Emulators/Scratch"),
        .executableTarget(name: "demux-example", dependencies: ["EmulatorKit"], path: "Emulators/Example"),
        .executableTarget(
            name: "demux-display", dependencies: ["VGA", "Surface", "EmulatorKit", "Host", "Platform", "XenHost"], path: "Emulators/Display"),
        .executableTarget(
            name: "demux-nvme", dependencies: ["NVMe", "CLinux", "EmulatorKit", "Host", "Platform", "XenHost"], path: "Emulators/NVMe"),
        .executableTarget(name: "demux-keyboard", dependencies: ["EmulatorKit"], path: "Emulators/Keyboard"),
        .executableTarget(
            name: "demux-vnc",
            dependencies: ["RFB", "Surface", "EmulatorProtocol", "Host", "Platform", "CLinux", "CVNCServer", "CGnuTLS"], path: "Emulators/VNC"),
        .executableTarget(name: "demux-debug", dependencies: ["EmulatorKit", "Platform", "XenHost"], path: "Emulators/Debug"),
        // One a host: the page that lists the guests, and noVNC.
        .executableTarget(
            name: "demux-web",
            dependencies: ["CLinux", "ControlProtocol", "Surface", "Picture", "Platform", .product(name: "FlyingFox", package: "FlyingFox")],
            // FlyingFox brings all of Foundation, whose static library wants curl although nothing here calls it.
            linkerSettings: [.linkedLibrary("curl")]),

        // The same cases on either host: in `swift test` on LocalHost, in the rig on XenHost.
        .target(name: "HostConformance", dependencies: ["Host", "Platform"], path: "Tests/HostConformance"),
        .executableTarget(
            name: "demux-conformance", dependencies: ["HostConformance", "XenHost", "CXen", "Platform"], path: "Tests/XenConformance"),
        // An emulator in plain C, written from Protocols/ alone.
        .executableTarget(
            name: "demux-c-scratch", path: "Tests/CScratch", exclude: ["README.md"], cSettings: [.headerSearchPath("../../Protocols")]),

        // The protocol's C header as a module, so that tests can compare it with the Swift side.
        .systemLibrary(name: "CEmulatorHeader", path: "Protocols"),
        .testTarget(
            name: "CEmulatorHeaderTests", dependencies: ["CEmulatorHeader", "CIoreq", "CLinux", "CSurface", "EmulatorProtocol", "Host", "Platform", "Surface", "SeededNumbers"]),

        // Emulators that misbehave in one way each, and one that answers late, for the process tests.
        .executableTarget(
            name: "demux-test-emulator", dependencies: ["CLinux", "EmulatorKit", "EmulatorProtocol", "Host", "Platform", "Surface"], path: "Tests/TestEmulator"),

        // Round trips of the Swift emulator against a bare C loop (`make bench`).
        .executableTarget(
            name: "demux-bench",
            dependencies: [
                "CIoreq", "CPlacement", "ControlProtocol", "Coordinator", "EmulatorProtocol", "Host", "LocalHost", "Platform", "RFB", "Specification", "Surface", "TestTools",
                .product(name: "Histogram", package: "hdrhistogram-swift"), .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/Benchmarks/Bench"),
        .target(name: "CPlacement", path: "Tests/Benchmarks/CPlacement"),
        .executableTarget(name: "demux-c-loop", dependencies: ["CIoreq"], path: "Tests/Benchmarks/CLoop"),

        // The fuzz tests' numbers.
        .target(name: "SeededNumbers", path: "Tests/SeededNumbers"),
        // Threads and temporary folders of tests.
        .target(name: "TestTools", dependencies: ["Platform"], path: "Tests/TestTools"),

        .testTarget(name: "UnplugTests", dependencies: ["EmulatorProtocol", "Host", "Unplug", "SeededNumbers"]),
        .testTarget(name: "PlatformTests", dependencies: ["CLinux", "Platform", "TestTools"]),
        .testTarget(name: "HostTests", dependencies: ["Host", "Platform", "SeededNumbers"]),
        .testTarget(name: "EmulatorProtocolTests", dependencies: ["EmulatorProtocol", "SeededNumbers"]),
        .testTarget(name: "XenHostTests", dependencies: ["XenHost", "Host"]),
        .testTarget(name: "LocalHostTests", dependencies: ["LocalHost", "HostConformance", "SeededNumbers", "TestTools"]),
        .target(name: "CAllocations", path: "Tests/CAllocations"),
        .testTarget(name: "EmulatorKitTests", dependencies: ["CAllocations", "CCommit", "EmulatorKit", "demux-scratch", "demux-debug", "demux-example", "SeededNumbers", "TestTools"]),
        .testTarget(name: "SurfaceTests", dependencies: ["CLinux", "CSurface", "Surface", "Platform", "SeededNumbers", "TestTools"]),
        .testTarget(name: "VGATests", dependencies: ["VGA", "SeededNumbers"]),
        .testTarget(name: "RFBTests", dependencies: ["RFB", "Platform", "SeededNumbers"]),
        .testTarget(name: "PictureTests", dependencies: ["Picture", "Surface", "Platform"]),
        .testTarget(name: "LocalCPUTests", dependencies: ["LocalCPU", "LocalHost", "Host", "Platform", "TestTools"]),
        .testTarget(name: "DisplayTests", dependencies: ["demux-display", "VGA", "Surface", "EmulatorKit", "EmulatorProtocol", "Host", "Platform", "SeededNumbers", "TestTools"]),
        .testTarget(name: "KeyboardTests", dependencies: ["demux-keyboard", "EmulatorKit", "SeededNumbers"]),
        .testTarget(name: "NVMeTests", dependencies: ["demux-nvme", "NVMe", "CLinux", "EmulatorKit", "EmulatorProtocol", "Host", "Platform", "SeededNumbers"]),
        .testTarget(name: "WebTests", dependencies: ["demux-web", "CLinux", "ControlProtocol", "Picture", "Surface", "Platform", "TestTools"]),
        // The exporter as a real process, real viewers and hostile ones.
        .testTarget(name: "ViewerTests", dependencies: ["demux-vnc", "RFB", "Surface", "EmulatorProtocol", "Host", "Platform", "CGnuTLS", "CLinux", "SeededNumbers"]),
        .testTarget(name: "ToolstackTests", dependencies: ["EmulatorProtocol", "Host", "Toolstack", "Unplug", "SeededNumbers", "TestTools"]),
        .testTarget(name: "SpecificationTests", dependencies: ["CLinux", "Picture", "Surface", "SpecificationFile", "ControlProtocol", "Platform", "demux", "SeededNumbers", "TestTools"]),
        .testTarget(name: "WatchTests", dependencies: ["Watch", "Host", "Platform", "SeededNumbers"]),
        .testTarget(name: "SeeingTests", dependencies: ["Seeing", "CIoreq", "ControlProtocol", "Host", "Platform", "SeededNumbers"]),
        .testTarget(name: "CoordinatorTests", dependencies: ["Coordinator", "ControlProtocol", "EmulatorProtocol", "Host", "LocalHost", "Platform", "SeededNumbers", "Specification", "Unplug", .product(name: "Logging", package: "swift-log")]),
        // The keeper as a real process, with a child that says what it finds.
        .executableTarget(name: "demux-test-kept", dependencies: ["Keeping", "Platform"], path: "Tests/TestKept"),
        .testTarget(name: "KeeperTests", dependencies: ["demux-keeper", "demux-test-kept", "Keeping", "Platform", "SeededNumbers", "TestTools"]),
        // Real child processes on LocalHost.
        .testTarget(
            name: "ProcessTests",
            dependencies: [
                "CLinux", "Coordinator", "ControlProtocol", "EmulatorProtocol", "Host", "Keeping", "LocalHost", "Platform", "Specification", "demux", "demux-dm",
                "demux-scratch", "demux-debug", "demux-example", "demux-c-scratch", "demux-test-emulator", "demux-display", "demux-vnc", "demux-keyboard", "demux-nvme", "demux-watchdog", "Watch",
                "Picture", "Surface", "SeededNumbers", "TestTools", "Unplug", .product(name: "Logging", package: "swift-log"),
            ]),
    ],
    swiftLanguageModes: [.v6]
)
