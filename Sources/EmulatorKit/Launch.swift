import EmulatorProtocol
import Glibc
import Host
import Platform

/// What a device wants kept.
@usableFromInline
struct StateWish {
    var length = 0
    var version = 1
    var accepts: [Int] = []

    @usableFromInline
    init(length: Int = 0, version: Int = 1, accepts: [Int] = []) { (self.length, self.version, self.accepts) = (length, version, accepts) }

    /// Whether state is asked for at all: whoever runs an emulator can have it do without (DEMUX_KEEP_STATE=no), to see what keeping it costs.
    static var isAllowed: Bool { getenv("DEMUX_KEEP_STATE").map { String(cString: $0) } != "no" }
}

/// The first part of an emulator's start: hello, attach, and the descriptors that came with it.
@usableFromInline
final class Launch {
    let attachment: Attachment
    private let descriptors: DescriptorBag
    private let name: String
    private let capabilities: [String]
    private let unplugClasses: [UnplugClass]
    private let state: StateWish

    /// Whether the coordinator wants this emulator to serve Xen's own pages.
    @usableFromInline var isDirect: Bool { attachment.attach.mode == .direct }

    /// Says hello on a connected socket and takes the coordinator's answer.
    @usableFromInline
    init(
        socket: consuming OwnedDescriptor, name: String, direct: Bool, capabilities: [String] = [], unplugClasses: [UnplugClass] = [],
        state: StateWish = StateWish()
    ) throws(SetupError) {
        self.unplugClasses = unplugClasses
        self.name = name
        self.capabilities = capabilities
        self.state = state
        let control: ControlConnection
        do { control = try ControlConnection(adopting: socket) } catch { throw SetupError(error) }
        let modes: [AttachMode] = direct ? [.direct, .isolated] : [.isolated]
        // Only for a device that can go on from it: one that begins anew is not to be taken for one that was never away.
        let length = state.length == 0 || !StateWish.isAllowed ? nil : try KitState.wanted(deviceLength: state.length)
        let hello = Hello(
            name: name, modes: modes, capabilities: ["data-pointer", "release", "observe", "adopted"] + capabilities, state: length,
            stateVersion: length.map { _ in state.version }, stateAccepts: length.map { _ in state.accepts },
            unplug: unplugClasses.isEmpty ? nil : unplugClasses)
        guard let answer = control.request(.hello(hello)) else { throw .closed("say hello to", "the coordinator") }
        switch answer.packet.body {
        case .attach(let attach):
            guard attach.version == 1, modes.contains(attach.mode) else {
                throw SetupError(
                    "attach", "in version \(attach.version), \(attach.mode.rawValue)", reason: "this emulator offered version 1, \(modes.map(\.rawValue).joined(separator: " or "))",
                    remedy: "this is a fault of the coordinator's")
            }
            guard let page = answer.descriptors.take() else { throw .missing("the counters page") }
            attachment = try Attachment(attach, counters: page, control: control)
            descriptors = answer.descriptors
        case .error(let refusal): throw SetupError("attach to", "the coordinator", refused: refusal)
        default: throw SetupError("attach to", "the coordinator", reason: "it answered hello with '\(answer.packet.body.type)'")
        }
    }

    /// The socket that the coordinator left for this process; nil when it was started by hand.
    @usableFromInline
    static func inheritedSocket() throws(SetupError) -> OwnedDescriptor? {
        do { return try InheritedSocket.take() } catch { throw SetupError(error) }
    }

    /// What a direct emulator's host is asked for.
    @usableFromInline
    var directRequest: DirectRequest {
        let attach = attachment.attach
        return DirectRequest(
            domain: attachment.domain, server: attachment.server, vcpus: attach.vcpus, ring: attach.ring, uid: attach.uid, gid: attach.gid)
    }

    @usableFromInline
    func setGuest(_ guest: any DirectGuest) { attachment.guest = guest }

    /// The channel of an isolated emulator, of the descriptors that came with `attach`.
    @usableFromInline
    func isolatedChannel() throws(SetupError) -> EventFDChannel {
        guard let slots = descriptors.take() else { throw .missing("the page of ioreq slots") }
        guard let kick = descriptors.take(), let done = descriptors.take() else { throw .missing("a doorbell") }
        do throws(SystemError) {
            // A doorbell that waits would stop the loop; its flags belong to the open file, so that both sides see this.
            try kick.setNonBlocking(true)
            try done.setNonBlocking(true)
            let page = try SharedMemory(adopting: slots, length: SlotPage.length, what: "the page of ioreq slots")
            var ring: Mapping?
            if attachment.attach.ring {
                guard let descriptor = descriptors.take() else { throw SystemError("accept", "the ring page", reason: "no descriptor came with the message") }
                ring = try SharedMemory(adopting: descriptor, length: SlotPage.length, what: "the ring page").map(what: "the ring page")
            }
            return try EventFDChannel(
                slots: page, ring: ring, kick: EventFD(adopting: kick), done: EventFD(adopting: done), vcpuCount: attachment.attach.vcpus)
        } catch {
            throw SetupError(error)
        }
    }

    /// Makes the loop's state. The caller frees it.
    @usableFromInline
    func makeCore(slots: SlotPage, ring: BufferedRing?, vcpus: Int) throws(SetupError) -> UnsafeMutablePointer<Core> {
        let grant = attachment.attach.state
        let state = try KitState(
            grant == nil ? nil : descriptors.take(), grant, name: name, deviceLength: state.length, version: state.version, accepts: state.accepts)
        if state.found?.isOlder == true {
            attachment.control.log(
                .error, "what \(name) had committed last is damaged (a wrong checksum): it goes on from what was committed before, and one request may be done twice")
        }
        if let observe = attachment.attach.observe { attachment.observe(observe, descriptors.take()) }
        try attachment.openMemory()
        let core = UnsafeMutablePointer<Core>.allocate(capacity: 1)
        let belongings = Belongings(state: state, capabilities: capabilities, unplugClasses: Set(unplugClasses), observed: ObservedWindows(attachment.observation))
        core.initialize(to: Core(attachment: attachment, slots: slots, ring: ring, vcpus: vcpus, belongings: belongings))
        return core
    }

    @usableFromInline
    func answer(_ id: UInt32) { attachment.control.send(Packet(.ok(Reply()), re: id)) }

    /// Answers a `quit` that came before the start.
    @usableFromInline
    func quit(_ core: UnsafeMutablePointer<Core>) {
        core.pointee.reply(core.pointee.quitID)
        attachment.control.flush()
    }

    @usableFromInline
    static func free(_ core: UnsafeMutablePointer<Core>) {
        core.deinitialize(count: 1)
        core.deallocate()
    }

    /// Last words.
    @usableFromInline
    func report(_ error: SetupError) { attachment.control.log(.error, error.description) }
}
