import EmulatorProtocol
import Host
import Platform

/// What an emulator has beyond claims and functions: regions, its state, and what it asked the coordinator for. None of it is on the way of a
/// request, so that it stands behind one reference instead of in the core.
final class Belongings {
    let state: KitState
    /// Which window has which histogram.
    let observed: ObservedWindows
    /// What the device said it can do.
    let capabilities: [String]
    /// What the device said its parts are to the unplug protocol.
    let unplugClasses: Set<UnplugClass>
    /// Unplug requests that the device has not answered.
    var unplugging: Set<UInt32> = []
    /// The device's own claims, with the coordinator's numbers for them.
    var claims: [Window: (range: IORange, number: Int)] = [:]
    var regions: [DeviceRegion] = []
    /// Moves that this process carries out itself, a slice at a time, the first one first.
    var moves: [RegionMove] = []
    /// Moves that the coordinator was asked for.
    var asked: [(id: UInt32, move: RegionMove)] = []
    /// Bitmaps that the coordinator was asked for.
    var collecting: [(id: UInt32, region: Int)] = []
    /// Scan-outs that the coordinator was asked for.
    var surfaces: [(id: UInt32, width: Int, height: Int)] = []
    /// What the device is to be told next, and the access that waits for it to have been told.
    private var events: [(event: Event, token: Token?)] = []
    /// The access that waits for the event which the device is being told.
    private var answering: Token?

    init(state: consuming KitState, capabilities: [String], unplugClasses: Set<UnplugClass> = [], observed: ObservedWindows = ObservedWindows(nil)) {
        self.observed = observed
        self.unplugClasses = unplugClasses
        self.state = state
        self.capabilities = capabilities
    }

    func queue(_ event: Event, answering token: Token? = nil) { events.append((event, token)) }

    var hasEvents: Bool { !events.isEmpty }

    func nextEvent() -> Event? {
        guard !events.isEmpty else { return nil }
        let next = events.removeFirst()
        answering = next.token
        return next.event
    }

    /// The access to be answered now that the device was told.
    func takeAnswering() -> Token? {
        defer { answering = nil }
        return answering
    }

    func region(_ region: DeviceRegion) -> Bool { region.index < regions.count && regions[region.index] === region }
}

/// A region on its way to another place.
struct RegionMove {
    var region: Int
    /// Guest-physical; nil: out of the guest's sight.
    var goal: UInt64?
    /// The BAR that it follows, whose function's configuration write waits.
    var function = -1
    var bar = -1
    /// The access that waits for it.
    var token: Token?
    /// Pages that have been moved, and whether the place was looked at.
    var done = 0
    var begun = false
}

/// Descriptors that came with an event; those that the device does not take are closed with the last copy of the event.
public struct EventDescriptors: Equatable, @unchecked Sendable {
    // Sendable: used by the one thread that serves, and by whomever it hands the value to.
    private let bag: DescriptorBag

    init(_ bag: DescriptorBag) { self.bag = bag }

    /// How many are left.
    public var count: Int { bag.count }

    /// The next one, in the protocol's order; nil when none is left. Any copy of the event takes from the same ones.
    public func take() -> OwnedDescriptor? { bag.take() }

    public static func == (left: EventDescriptors, right: EventDescriptors) -> Bool { left.bag === right.bag }
}
