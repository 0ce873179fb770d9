import EmulatorProtocol
import Host
import Platform

/// What outlives an emulator's process: its server, its state, its device memory, its counters, and how often it had to be started again.
/// Kept by the emulator's name until it is detached.
final class Holdings {
    /// Regions that one emulator may have.
    static let mostRegions = 4
    /// Bytes of one region: 64 MiB.
    static let largestRegion: UInt64 = 64 << 20

    /// Memory of the device's that the guest uses as RAM.
    struct Region {
        let label: String
        var host: HostRegion
    }

    /// What a restored guest brings along: memory that is at its frames already.
    struct Preset: Equatable {
        let label: String
        let length: UInt64
        let gfn: GFN?
    }

    /// From the first `hello` on; an exporter has none.
    var server: KeptServer? { didSet { changed?() } }
    /// How the last process was attached; nil: none was.
    var mode: AttachMode?
    /// Called when there is something that a coordinator's successor has to know.
    var changed: (() -> Void)?
    let counters: CounterMemory
    /// What its processes have done against the protocol.
    let faults: FaultLog
    private(set) var state: StateMemory?
    /// The version of what is in the state, as its emulator says in `hello`; nil: none, or it came with a saved guest.
    private(set) var stateVersion: Int?
    private(set) var regions: [Region] = [] { didSet { changed?() } }
    var backoff = RestartBackoff()
    var lateRetry = LateRetry()
    /// Successors that have served.
    var restarts = 0 { didSet { changed?() } }
    /// Programs that have taken another's place.
    var replacements = 0 { didSet { changed?() } }
    private var presetState: [UInt8]?
    /// Whether nobody has served since the state came with a saved guest.
    private var isRestored = false
    private var presetRegions: [Preset] = []

    init(name: String) throws(SystemError) {
        counters = try CounterMemory(name: name)
        faults = FaultLog(emulator: name)
    }

    /// Takes over what a predecessor of this coordinator kept, without the server.
    init(adopting kept: KeptHoldings, counters: CounterMemory, state: StateMemory?) {
        self.counters = counters
        faults = FaultLog(emulator: kept.name)
        self.state = state
        stateVersion = kept.stateVersion
        restarts = kept.restarts
        replacements = kept.replacements
        regions = kept.regions.map {
            Region(
                label: $0.label,
                host: HostRegion(
                    number: $0.number, length: $0.length, gfn: $0.gfn.map { GFN($0) }, home: $0.home.map { GFN($0) }, hasDoorbell: $0.hasDoorbell))
        }
    }

    // MARK: state

    /// Whether an emulator that says this can go on from the state that is there.
    /// - Throws: Refusal when it knows neither its version nor its length.
    func checkState(_ hello: Hello) throws(Refusal) {
        guard let state, state.isUsed else { return }
        guard let length = hello.state, length != 0 else {
            throw Refusal(
                .invalid, asked: "no state",
                message: "the state that is there has \(state.length) bytes, which this program would not go on from; use one that does, or detach the emulator first and begin anew")
        }
        let own = hello.stateVersion ?? 1
        let asked = "a state of version \(own) and \(length) bytes"
        if let stateVersion, stateVersion != own, hello.stateAccepts?.contains(stateVersion) != true {
            throw Refusal(
                .invalid, asked: asked,
                message: "the state that is there has version \(stateVersion), which this program does not accept; use one that does, or detach the emulator first and begin anew")
        }
        if state.length != length {
            throw Refusal(
                .invalid, asked: asked,
                message: "the state that is there has \(state.length) bytes; use a program with as many, or detach the emulator first and begin anew")
        }
    }

    /// The emulator's state of this length, made when there is none.
    /// - Parameters:
    ///   - version: what its emulator writes.
    ///   - bag: gets the descriptor to hand out.
    /// - Returns: what `attach` says of it.
    /// - Throws: Refusal when the length is out of bounds, is not that of the state to be restored, or there is no memory.
    func grantState(length: Int, version: Int, to bag: DescriptorBag) throws(Refusal) -> StateGrant {
        let asked = "a state of \(length) bytes"
        guard length > 0, length <= StateGrant.largest else {
            throw Refusal(.invalid, asked: asked, message: "it may have 1 to \(StateGrant.largest) bytes")
        }
        if let presetState, presetState.count != length {
            throw Refusal(
                .invalid, asked: asked, message: "the saved guest's has \(presetState.count) bytes; restore it with the version that saved it")
        }
        do {
            let memory: StateMemory
            if let state, state.length == length { memory = state } else { memory = try StateMemory(length: length) }
            // A predecessor that never served has left nothing that is worth keeping.
            if !memory.isUsed {
                memory.clear()
                stateVersion = version
            }
            if let presetState {
                memory.fill(presetState)
                self.presetState = nil
                // A saved guest does not say.
                stateVersion = nil
                isRestored = true
            }
            state = memory
            bag.add(try memory.duplicate())
            return StateGrant(length: length, fresh: !memory.isUsed, version: stateVersion, restored: isRestored ? true : nil)
        } catch {
            throw Refusal(.exhausted, asked: asked, message: "\(error)")
        }
    }

    /// The emulator serves: what it has in its state is the device's from now on.
    /// - Parameter version: what it writes.
    func noteServing(version: Int) {
        state?.isUsed = true
        isRestored = false
        if state != nil { stateVersion = version }
        changed?()
    }

    /// What was in the state before somebody else was tried in an emulator's place.
    func putBack(state bytes: [UInt8]) { state?.fill(bytes) }

    /// - Throws: Refusal when it is longer than any state.
    func preset(state bytes: [UInt8]) throws(Refusal) {
        guard !bytes.isEmpty, bytes.count <= StateGrant.largest else {
            throw Refusal(.invalid, asked: "a saved state of \(bytes.count) bytes", message: "a state has 1 to \(StateGrant.largest) bytes")
        }
        presetState = bytes
    }

    // MARK: regions

    /// Memory that somebody saved, for the emulator that asks for it by its label.
    func preset(region: Preset) { presetRegions.append(region) }

    /// The region of this label: the predecessor's, the restored guest's, or a new one.
    func region(_ request: RegionRequest, host: any Host) throws(Refusal) -> (HostRegion, adopted: Bool) {
        let length = request.length.value
        let label = PrintableText.escaped(String(request.label.unicodeScalars.prefix(64)))
        let asked = "region '\(label)' of \(length) bytes"
        guard length > 0, length & 0xfff == 0, length <= Self.largestRegion else {
            throw Refusal(.invalid, asked: asked, message: "a region is of whole pages, at most \(Self.largestRegion >> 20) MiB")
        }
        if let kept = regions.first(where: { $0.label == label }) {
            guard kept.host.length == length else {
                throw Refusal(.invalid, asked: asked, message: "this emulator has it with \(kept.host.length) bytes; use another label, or detach it first")
            }
            return (kept.host, true)
        }
        guard regions.count < Self.mostRegions else { throw Refusal(.exhausted, asked: asked, message: "an emulator may have \(Self.mostRegions)") }
        guard let host = host as? any RegionHost else {
            throw Refusal(.unsupported, asked: asked, message: "this host gives its guests no memory of devices; use a claim")
        }
        let preset = presetRegions.first { $0.label == label }
        if let preset, preset.length != length {
            throw Refusal(.invalid, asked: asked, message: "the saved guest's has \(preset.length) bytes; restore it with the settings that it was saved with")
        }
        do {
            let made: HostRegion
            if let gfn = preset?.gfn { made = try host.adoptRegion(length: length, at: gfn) } else { made = try host.makeRegion(length: length) }
            presetRegions.removeAll { $0.label == label }
            regions.append(Region(label: label, host: made))
            return (made, preset?.gfn != nil)
        } catch {
            throw Refusal(.exhausted, asked: asked, message: "\(error)")
        }
    }

    /// - Throws: Refusal when the emulator has no region of that number.
    func region(_ number: Int, asked: String) throws(Refusal) -> HostRegion {
        guard let region = regions.first(where: { $0.host.number == number }) else {
            throw Refusal(.invalid, asked: asked, message: "this emulator has no region of that number")
        }
        return region.host
    }

    func notePlace(_ number: Int, _ gfn: GFN?) {
        guard let index = regions.firstIndex(where: { $0.host.number == number }) else { return }
        regions[index].host.gfn = gfn
    }

    /// Gives every region back; its emulator's process must have ended. For a dying guest nothing is asked of the host any more.
    /// - Returns: the first thing that went wrong, if anything did.
    func releaseRegions(host: any Host, dying: Bool) -> HostError? {
        var trouble: HostError?
        if !dying, let host = host as? any RegionHost {
            for region in regions {
                do { try host.removeRegion(region.host.number) } catch { trouble = trouble ?? error }
            }
        }
        regions = []
        return trouble
    }
}
