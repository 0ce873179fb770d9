import Host
import Platform
import Toolstack
import XenHost

/// Watches, alone among Demux's processes, for the end of the domain.
final class XenStoreWatcher {
    private let store: XenStore
    private let loop: EventLoop
    private let domain: DomainID
    private var gone: (() -> Void)?

    init(loop: EventLoop, domain: DomainID) throws(SystemError) {
        store = try XenStore()
        self.loop = loop
        self.domain = domain
    }

    deinit { loop.forget(store.descriptor) }

    /// Calls `gone` once, when the domain is dying or no longer there.
    func start(_ gone: @escaping () -> Void) throws(SystemError) {
        self.gone = gone
        try store.watch(XenStorePaths.released, token: "released")
        try loop.watch(store.descriptor, for: .readable) { [weak self] _ in self?.look() }
    }

    private func look() {
        while let event = try? store.nextEvent() { _ = event }
        guard isGone, let gone else { return }
        self.gone = nil
        gone()
    }

    /// Whether xenstore has a path at present.
    func has(_ path: String) -> Bool { (try? store.read(path)) != nil }

    /// Whether libxl is destroying the guest: the device model's folder is the first thing that it removes.
    var isBeingDestroyed: Bool { isGone || (try? store.list(XenStorePaths(domain: domain).deviceModel)) == .some(nil) }

    private var isGone: Bool { !store.isAlive(domain) }
}
