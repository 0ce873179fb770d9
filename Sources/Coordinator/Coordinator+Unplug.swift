import ControlProtocol
import EmulatorProtocol
import Host
import Platform
import Unplug

/// The PV unplug protocol (Protocols/unplug.md): the ports that the coordinator serves itself, and the same by hand.
extension Coordinator {
    /// QEMU's part; nil until it can be asked. Not kept alive.
    public var unplugPartner: (any UnplugPartner)? {
        get { context.unplug.qemu }
        set { context.unplug.qemu = newValue }
    }

    /// Whether the host's administrator has blacklisted a PV driver: its product and build.
    public var isBlacklistedByHost: ((UInt16, UInt32) -> Bool)? {
        get { context.unplug.isBlacklistedByHost }
        set { context.unplug.isBlacklistedByHost = newValue }
    }

    /// What the guest has unplugged, to be saved with it; nil: nothing.
    public var savedUnplug: SavedUnplug? { context.unplug.saved }

    /// Takes over what a restored guest had unplugged; to be called before its emulators are started.
    public func preset(_ saved: SavedUnplug) { context.unplug.restore(saved) }

    /// Has a restored guest's QEMU remove what the guest had unplugged; `done` is called once, never from inside when there is something.
    /// - Parameter limit: how long QEMU has for each of its answers.
    public func unplugQEMUAgain(within limit: Duration, _ done: @escaping () -> Void) {
        context.unplug.repeatForQEMU(within: limit, done)
    }

    /// `demux unplug`.
    func unplug(_ words: [String], dryRun: Bool, _ reply: @escaping (ControlReply) -> Void) {
        var classes: Set<UnplugClass> = []
        for word in words {
            guard let known = UnplugClass(rawValue: word) else {
                return reply(.failed("'\(PrintableText.escaped(String(word.prefix(40))))' is no class of devices: there are \(Set(UnplugClass.allCases).text)"))
            }
            classes.insert(known)
        }
        guard !classes.isEmpty else { return reply(.failed("no class of devices is named: there are \(Set(UnplugClass.allCases).text)")) }
        if dryRun {
            return context.unplug.candidates(classes) { lines in
                reply(.done(lines.isEmpty ? "nobody has devices of \(classes.text)" : "would go:\n" + lines.map { "  \($0)" }.joined(separator: "\n")))
            }
        }
        context.unplug.unplug(classes, isGuests: false) { operation in
            guard !operation.failures.isEmpty else { return reply(.done("\(classes.text) unplugged; 'demux status' shows what has gone")) }
            let reasons = operation.failures.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
            reply(.failed("not everything of \(classes.text) is unplugged: \(reasons.joined(separator: "; "))"))
        }
    }
}
