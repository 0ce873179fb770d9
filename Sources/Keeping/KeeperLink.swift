import CLinux
import Glibc
import Platform

/// Whoever holds descriptors for a coordinator, so that its successor finds them.
public protocol DescriptorKeeper: AnyObject {
    /// Holds duplicates under a name, in the place of what it held under it: all of them at once.
    func keep(_ descriptors: [CInt], as name: String)
    /// Lets go of a name; of everything below when it ends in "/".
    func drop(_ name: String)
    /// What a predecessor gave under a name; it stays held. Nil when there was nothing, or it was taken already.
    func take(_ name: String) -> DescriptorBag?
    /// Names that a predecessor gave and nobody has taken.
    var untaken: [String] { get }
    /// How a process ended that is not this one's child; nil when nobody knows.
    func exit(of pid: pid_t) -> ChildProcess.Exit?
    /// What is held is enough for a successor.
    func ready()
}

/// The coordinator's end of its socket to the keeper. Every call is done when it returns: the keeper does nothing else than read.
public final class KeeperLink: DescriptorKeeper {
    private let socket: MessageSocket
    private var found: [String: DescriptorBag] = [:]
    /// How many coordinators of this guest there were before.
    public private(set) var predecessors = 0
    private var isGone = false
    /// Called once when the keeper is gone.
    public var lost: (() -> Void)?

    /// Takes up the connection that the environment names, and hears what predecessors left; nil when there is no keeper.
    /// - Throws: SystemError when the socket is none, or the keeper closes it.
    public static func inherited() throws(SystemError) -> KeeperLink? {
        guard let text = getenv(KeeperNames.socketVariable).map({ String(cString: $0) }) else { return nil }
        unsetenv(KeeperNames.socketVariable)
        guard let number = CInt(text), number > 2, demux_set_cloexec(number, 1) == 0 else {
            throw SystemError("use", "\(KeeperNames.socketVariable)=\(text)", reason: "that is no descriptor of this process", remedy: "only demux-keeper sets it")
        }
        return try KeeperLink(MessageSocket(adopting: OwnedDescriptor(adopting: number)))
    }

    public init(_ socket: consuming MessageSocket) throws(SystemError) {
        self.socket = socket
        while true {
            guard case .message(let bytes, let bag) = try self.socket.receive(), let message = KeeperMessage(bytes) else {
                throw SystemError("hear", "what the keeper holds", reason: "it closed the connection, or said something unknown", remedy: "install both of one version")
            }
            switch message {
            case .held(let name): found[name] = bag
            case .begin(let count):
                predecessors = count
                return
            default: continue
            }
        }
    }

    /// Readable when the keeper is gone.
    public var descriptor: CInt { socket.descriptor.raw }

    /// To be called when `descriptor` is readable: outside of `exit(of:)` the keeper says nothing.
    /// - Returns: whether it is gone.
    public func look() -> Bool {
        if case .nothing? = try? socket.receive(wait: false) { return false }
        return lose()
    }

    @discardableResult
    private func lose() -> Bool {
        guard !isGone else { return true }
        isGone = true
        let lost = lost
        self.lost = nil
        lost?()
        return true
    }

    private func send(_ message: KeeperMessage, _ descriptors: [CInt] = []) {
        guard !isGone else { return }
        do { try socket.send(message.bytes, descriptors: descriptors) } catch { lose() }
    }

    public func keep(_ descriptors: [CInt], as name: String) { send(.keep(name), descriptors) }

    public func drop(_ name: String) { send(.drop(name)) }

    public func ready() { send(.ready) }

    public func take(_ name: String) -> DescriptorBag? { found.removeValue(forKey: name) }

    public var untaken: [String] { found.keys.sorted() }

    /// The predecessors' descriptors that nobody took are let go of here; the keeper goes on holding them.
    public func forgetRest() { found = [:] }

    public func exit(of pid: pid_t) -> ChildProcess.Exit? {
        send(.ask(pid: pid))
        while !isGone {
            guard let received = try? socket.receive(), case .message(let bytes, _) = received else {
                lose()
                return nil
            }
            guard case .status(pid, let status) = KeeperMessage(bytes) else { continue }
            return status < 0 ? nil : status >= 256 ? .signal(status - 256) : .status(status)
        }
        return nil
    }
}
