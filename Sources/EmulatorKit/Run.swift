import Glibc
import Host
import Platform

/// Why serving ended.
@usableFromInline
enum Ending: CInt {
    case ordered = 0
    case failed = 1
    case startedByHand = 2
}

extension Emulator where Self: ~Copyable {
    /// Serves in isolated mode only: the emulator has no handle of Xen's and needs no privilege.
    @inlinable
    public static func main() { runIsolated() }

    /// Serves until the coordinator ends it; the process then exits with 0. Exits with 1 when it could not start, with 2
    /// when it was not started by a coordinator.
    @inlinable
    public static func runIsolated() -> Never {
        process { launch throws(SetupError) in
            try serve(try launch.isolatedChannel(), launch)
        }
    }

    /// As `runIsolated`, and offers to serve Xen's own pages.
    /// - Parameter direct: what opens Xen's handles, such as XenHost's `XenDirect`.
    @inlinable
    public static func run<D: DirectAttachment & ~Copyable>(direct: D.Type) -> Never {
        process(direct: true) { launch throws(SetupError) in
            guard launch.isDirect else { return try serve(try launch.isolatedChannel(), launch) }
            let channel: D
            do throws(HostError) { channel = try D(launch.directRequest) } catch { throw SetupError(error) }
            launch.setGuest(channel.guest)
            return try serve(channel, launch)
        }
    }

    /// Sets the device up on a channel and serves it to its end.
    @inlinable
    static func serve<C: Channel & ~Copyable>(_ channel: consuming C, _ launch: Launch) throws(SetupError) {
        let core = try launch.makeCore(slots: channel.slots, ring: channel.ring, vcpus: channel.vcpuCount)
        defer { Launch.free(core) }
        var setup = Setup(core: core)
        let emulator = try Self(&setup)
        try setup.finish()
        var loop = ServingLoop(channel: channel, emulator: emulator, core: core)
        guard let start = try loop.awaitStart() else { return launch.quit(core) }
        try loop.start()
        launch.answer(start)
        loop.run()
    }

    @usableFromInline
    static func process(direct: Bool = false, _ body: (Launch) throws(SetupError) -> Void) -> Never {
        StandardDescriptors.fill()
        var launch: Launch?
        do throws(SetupError) {
            guard let socket = try Launch.inheritedSocket() else {
                complain(
                    """
                    \(name) is a device emulator of Demux. It is started by a guest's coordinator, which leaves it a socket (DEMUX_SOCKET).
                    To use it, name this program under 'emulators' in the guest's specification, or add it to a running guest:
                      demux attach DOMID PROGRAM
                    """)
                exit(Ending.startedByHand.rawValue)
            }
            let launched = try Launch(
                socket: socket, name: name, direct: direct, capabilities: capabilities, unplugClasses: unplugClasses,
                state: StateWish(length: stateLength, version: stateVersion, accepts: stateAccepts))
            launch = launched
            try body(launched)
        } catch {
            // Standard error is a part of the guest's log, too: once is enough.
            if let launch { launch.report(error) } else { complain("\(name): \(error)") }
            exit(Ending.failed.rawValue)
        }
        exit(Ending.ordered.rawValue)
    }

    private static func complain(_ text: String) {
        let line = text + "\n"
        _ = line.withCString { Glibc.write(STDERR_FILENO, $0, strlen($0)) }
    }
}
