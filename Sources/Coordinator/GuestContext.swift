import EmulatorProtocol
import Host
import Platform
import Specification
import Unplug

/// What the parts of one guest's coordinator share.
///
/// Held by the coordinator and by each session; used on the loop's thread only.
final class GuestContext {
    let loop: EventLoop
    let host: any Host
    let logBook: LogBook
    let vcpuCount: Int
    /// On Xen an emulator can be direct; on LocalHost every one is isolated.
    let allowsDirect: Bool
    /// The user that a restricted guest's emulators become.
    let restrictedTo: (uid: UInt32, gid: UInt32)?
    /// Tells a successor of this coordinator what it has to know.
    let recorder: Recorder
    var registry = ClaimRegistry() { didSet { recorder.changed() } }
    let surfaces: SurfaceBoard
    let input = InputRouter()
    /// Whether emulators that this process has started are killed when it ends: there is no guest without it.
    let emulatorsEndWithIt: Bool
    /// What looks whether emulators go on; nil: nobody does.
    var watchdog: WatchdogClient?
    /// Ends the process of an emulator, by its name, that can go on serving no more, if another one is to take its place; says whether it is.
    var replaceBroken: (String) -> Bool = { _ in false }
    /// Who looks at latencies and traces.
    let observations = ObservationBoard()
    /// The exporter's desk, when the guest has one.
    var vnc: VNCDesk? {
        didSet {
            vnc?.changed = { [recorder] in recorder.changed() }
            recorder.changed()
        }
    }
    /// The unplug ports, and what is unplugged.
    let unplug: UnplugDesk
    /// What the coordinator's own server answers: the unplug ports and the platform device.
    private(set) lazy var platform = PlatformFunction(self)
    /// Whether emulators must report the guest pages that they write: what one is told that starts in the middle of it.
    var dirtyLogging = false { didSet { recorder.changed() } }
    /// What outlives the emulators' processes, by their names.
    private var kept: [String: Holdings] = [:]
    /// Servers made before QEMU was started, highest first.
    var reserved: [ServerID] = [] { didSet { recorder.changed() } }
    /// Server 7, kept for what the coordinator serves itself; disabled until then.
    var own: ServerID?
    private var ownServer: OwnServer?
    private(set) var servesOwnPorts = false { didSet { recorder.changed() } }
    /// QEMU's servers, once it is dead.
    var strangers: [(id: ServerID, parked: ParkedServer)] = []
    /// The domain is going away: nothing is asked of the host any more.
    var dying = false

    init(
        loop: EventLoop, host: any Host, logBook: LogBook, allowsDirect: Bool, restrictedTo: (uid: UInt32, gid: UInt32)?,
        emulatorsEndWithIt: Bool = false, unplug: UnplugSpecification
    ) throws(HostError) {
        self.loop = loop
        self.host = host
        self.logBook = logBook
        recorder = Recorder(loop: loop, logBook: logBook)
        self.allowsDirect = allowsDirect
        self.restrictedTo = restrictedTo
        self.emulatorsEndWithIt = emulatorsEndWithIt
        self.unplug = UnplugDesk(loop: loop, host: host, logBook: logBook, specification: unplug)
        surfaces = SurfaceBoard(loop: loop, logBook: logBook)
        vcpuCount = min(max(try host.vcpuCount(), 1), VCPUID.limit)
        self.unplug.changed = { [recorder] in recorder.changed() }
        surfaces.recorder = recorder
    }

    func holdings(of name: String) throws(SystemError) -> Holdings {
        if let known = kept[name] { return known }
        let fresh = try Holdings(name: name)
        recorder.keep(fresh.counters.descriptor, as: KeptName.holdings(name) + KeptPart.counters)
        keep(fresh, name)
        return fresh
    }

    func keep(_ holdings: Holdings, _ name: String) {
        holdings.changed = { [recorder] in recorder.changed() }
        kept[name] = holdings
        recorder.changed()
    }

    /// The emulator was taken out of the guest: one of the same name starts afresh.
    func forget(_ holdings: Holdings) {
        for (name, known) in kept where known === holdings {
            kept[name] = nil
            recorder.drop(KeptName.holdings(name))
        }
        recorder.changed()
    }

    /// Everything that is kept, in the order of the names.
    var allHoldings: [(name: String, holdings: Holdings)] { kept.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }

    /// Takes the high ids before QEMU comes: makes every server that is free, keeps one for the coordinator and `count` for
    /// emulators from the top, gives the rest back. Precedence is then a matter of ids, not of who started first.
    func reserve(_ count: Int) throws(HostError) {
        var made: [ServerID] = []
        while made.count < ServerID.limit {
            do {
                made.append(try host.createServer(ring: true))
            } catch where error.reason == .noFreeServer {
                break
            }
        }
        made.sort(by: >)
        guard made.count > count else {
            for server in made { try? host.destroyServer(server) }
            throw HostError(
                "reserve", "\(count + 1) ioreq servers of \(host.domain)", .noFreeServer,
                detail: "only \(made.count) are free", remedy: "a domain has \(ServerID.limit); configure fewer emulators, or isolated ones")
        }
        own = made[0]
        reserved = Array(made[1..<(count + 1)])
        for server in made[(count + 1)...] { try host.destroyServer(server) }
    }

    /// Serves the unplug ports from now on, above everybody; without reserved servers nobody of ours does.
    func serveOwnPorts() throws(HostError) {
        guard let own, ownServer == nil, let range = PortRange(first: UnplugPorts.firstPort, last: UnplugPorts.lastPort) else { return }
        do throws(Refusal) {
            _ = try registry.claim(.ports(range), owner: .coordinator, label: "PV unplug", interposing: [.ports(range)])
        } catch {
            throw HostError("claim", "\(range)", .invalid, detail: "\(error)")
        }
        // The server answers every INVALIDATE from here on: a successor must know.
        servesOwnPorts = true
        recorder.commit()
        ownServer = try OwnServer(loop: loop, host: host, server: own, ranges: ownRanges, handler: platform)
    }

    /// Goes on serving them where a predecessor was killed.
    func adoptOwnPorts(_ server: ServerID) throws(HostError) {
        servesOwnPorts = true
        ownServer = try OwnServer(loop: loop, host: host, server: server, ranges: ownRanges, handler: platform, adopting: true)
    }

    private var ownRanges: [IORange] { registry.claims(of: .coordinator).map(\.range) }

    /// A server for one more emulator: a reserved one, otherwise a new one (always above QEMU's, which has the lowest).
    func takeServer() throws(HostError) -> ServerID {
        reserved.isEmpty ? try host.createServer(ring: true) : reserved.removeFirst()
    }

    /// Gives back what was reserved and never used, and the coordinator's own.
    func releaseServers() {
        strangers = []
        if dying { ownServer?.letGo() } else { ownServer?.stop() }
        ownServer = nil
        servesOwnPorts = false
        registry.releaseAll(of: .coordinator)
        for server in reserved + (own.map { [$0] } ?? []) where !dying { try? host.destroyServer(server) }
        reserved = []
        own = nil
    }
}
