import Host
import Platform
import Toolstack
import XenHost

/// Watches, alone among Demux's processes, for the end of the domain and for its new names.
final class XenStoreWatcher {
    private static let nameToken = "name"
    private let store: XenStore
    private let loop: EventLoop
    private let domain: DomainID
    private var gone: (() -> Void)?
    private var named: ((String) -> Void)?

    init(loop: EventLoop, domain: DomainID) throws(SystemError) {
        store = try XenStore()
        self.loop = loop
        self.domain = domain
    }

    deinit { loop.forget(store.descriptor) }

    /// Calls `named` soon, and with each name that the guest is given (`xl rename`; after a migration, too); `gone` once, when the domain is
    /// dying or no longer there.
    func start(named: @escaping (String) -> Void, gone: @escaping () -> Void) throws(SystemError) {
        self.gone = gone
        self.named = named
        try store.watch(XenStorePaths.released, token: "released")
        try store.watch(XenStorePaths(domain: domain).name, token: Self.nameToken)
        try loop.watch(store.descriptor, for: .readable) { [weak self] _ in self?.look() }
    }

    private func look() {
        var isNamed = false
        while let event = try? store.nextEvent() { isNamed = isNamed || event.token == Self.nameToken }
        // Nameless is what is on its way to its end.
        if isNamed, let name = try? store.read(XenStorePaths(domain: domain).name), !name.isEmpty { named?(name) }
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
