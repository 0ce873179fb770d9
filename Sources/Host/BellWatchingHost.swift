/// A host that finds by itself what an emulator has answered without ringing: LocalHost, whose waiting vCPUs look after a while. Where a relay stands
/// between, the relay does.
public protocol BellWatchingHost: Host {
    /// Readable while there are forgotten bells that nobody has taken.
    var forgottenBellDescriptor: CInt { get }

    /// Takes those that were found since the last time, oldest first; of very many only some.
    func takeForgottenBells() -> [ForgottenBell]
}

/// An answer that a vCPU found although nobody had rung for it.
public struct ForgottenBell: Equatable, Sendable {
    public var server: ServerID
    public var vcpu: Int
    public init(server: ServerID, vcpu: Int) {
        self.server = server
        self.vcpu = vcpu
    }
}
