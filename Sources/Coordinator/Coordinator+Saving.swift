import EmulatorProtocol
import Host
import Platform

/// The state that one emulator keeps outside its process.
public struct SavedState: Equatable, Sendable {
    /// The emulator's name.
    public var emulator: String
    public var bytes: [UInt8]
    public init(emulator: String, bytes: [UInt8]) {
        self.emulator = emulator
        self.bytes = bytes
    }
}

/// Device memory that the guest uses as RAM.
public struct SavedRegion: Equatable, Sendable {
    /// The emulator's name.
    public var emulator: String
    public var label: String
    /// Bytes.
    public var length: UInt64
    /// Where it is in the guest; nil: nowhere. On Xen its content is in the guest's own memory then.
    public var gfn: GFN?
    public init(emulator: String, label: String, length: UInt64, gfn: GFN?) {
        self.emulator = emulator
        self.label = label
        self.length = length
        self.gfn = gfn
    }
}

/// What goes into a saved guest and comes out of it.
extension Coordinator {
    /// Has every emulator stop serving, so that its state stands still; `done` is called once, with nil or with the reasons why not.
    /// One that has no answer within two seconds is one of the reasons. What is being unplugged is waited for first: it cannot be saved half done.
    public func pauseEmulators(_ done: @escaping ([String]?) -> Void) {
        // Whoever takes a place now would serve on.
        let replaced = replacements.keys.sorted().map { "emulator '\($0)' is being replaced; try again when that is over" }
        guard replaced.isEmpty else { return loop.soon { done(replaced) } }
        context.unplug.whenIdle { [weak self] reason in
            if let reason { return done([reason]) }
            self?.ask(.pause, becoming: .paused, done)
        }
    }

    /// Has paused emulators go on.
    public func resumeEmulators(_ done: @escaping ([String]?) -> Void) { ask(.resume, becoming: .serving, done) }

    private func ask(_ message: Message, becoming state: EmulatorSession.State, _ done: @escaping ([String]?) -> Void) {
        let asked = sessions.filter { ($0.state == .serving || $0.state == .paused) && $0.state != state && $0.mode != .exporter }
        var waiting = Set(asked.map(\.name))
        var reasons: [String] = []
        func finish() { done(reasons.isEmpty ? nil : reasons) }
        guard !waiting.isEmpty else { return loop.soon(finish) }
        let deadline = loop.after(.seconds(2)) {
            guard !waiting.isEmpty else { return }
            reasons += waiting.sorted().map { "emulator '\($0)' does not answer '\(message.type)'" }
            waiting = []
            finish()
        }
        for session in asked {
            session.request(message) { [loop] refusal in
                guard waiting.remove(session.name) != nil else { return }
                if let refusal { reasons.append("emulator '\(session.name)': \(refusal)") } else { session.state = state }
                guard waiting.isEmpty else { return }
                loop.cancel(deadline)
                // Never from inside the loop that asks.
                loop.soon(finish)
            }
        }
    }

    /// Every emulator's state as it is now.
    public var states: [SavedState] {
        context.allHoldings.compactMap { name, holdings in holdings.state.map { SavedState(emulator: name, bytes: $0.bytes) } }
    }

    /// Every emulator's device memory.
    public var regions: [SavedRegion] {
        context.allHoldings.flatMap { name, holdings in
            holdings.regions.map { SavedRegion(emulator: name, label: $0.label, length: $0.host.length, gfn: $0.host.gfn) }
        }
    }

    /// Gives an emulator that is yet to start the state that was saved.
    /// - Throws: Refusal when it is longer than any state, or there is no emulator of that name in the specification.
    public func preset(_ state: SavedState) throws(Refusal) { try holdings(of: state.emulator, asked: "a saved state").preset(state: state.bytes) }

    /// Gives an emulator that is yet to start the device memory that the restored guest has already.
    /// - Throws: Refusal when there is no emulator of that name in the specification.
    public func preset(_ region: SavedRegion) throws(Refusal) {
        try holdings(of: region.emulator, asked: "saved device memory").preset(
            region: Holdings.Preset(label: region.label, length: region.length, gfn: region.gfn))
    }

    private func holdings(of name: String, asked: String) throws(Refusal) -> Holdings {
        guard specification.allEmulators.contains(where: { $0.name == name }) else {
            throw Refusal(
                .invalid, asked: "\(asked) of emulator '\(PrintableText.escaped(String(name.prefix(40))))'",
                message: "the specification (\(specification.source)) has none of that name; restore the guest with the one that it was saved with")
        }
        do { return try context.holdings(of: name) } catch { throw Refusal(.exhausted, asked: asked, message: "\(error)") }
    }
}
