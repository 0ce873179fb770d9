import Host
import Platform
import Synchronization

/// Answers that vCPUs found without a ring, until whoever watches over the emulators takes them.
final class UnrungAnswers: Sendable {
    /// Those that are kept; more say nothing new.
    private static let most = 128

    private let bells = Mutex<[ForgottenBell]>([])
    private let news: EventFD

    init() throws(SystemError) { news = try EventFD() }

    var descriptor: CInt { news.descriptor.raw }

    func add(_ bell: ForgottenBell) {
        let isNew = bells.withLock { bells in
            guard bells.count < Self.most else { return false }
            bells.append(bell)
            return true
        }
        if isNew { news.ring() }
    }

    func take() -> [ForgottenBell] {
        news.clear()
        return bells.withLock { bells in
            defer { bells = [] }
            return bells
        }
    }
}

extension LocalHost: BellWatchingHost {
    public var forgottenBellDescriptor: CInt { unrung.descriptor }
    public func takeForgottenBells() -> [ForgottenBell] { unrung.take() }
}
