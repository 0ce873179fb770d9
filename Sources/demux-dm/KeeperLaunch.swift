import Glibc
import Host
import Keeping
import Platform
import Toolstack
import XenHost

/// The coordinator's beginning and end, as far as its keeper is concerned.
enum KeeperLaunch {
    /// Becomes the guest's keeper, which then starts this program again: the process that the toolstack knows stays, whatever becomes of
    /// the coordinator. Returns when this is the one that the keeper starts, or something that has none.
    static func becomeKeeper(_ arguments: [String]) {
        guard getenv(KeeperNames.socketVariable) == nil, getenv(KeeperNames.brokenVariable) == nil, case .deviceModel? = try? Mode(arguments: arguments),
            let parsed = try? DeviceModelArguments(arguments), !parsed.isProbe, parsed.domain != nil
        else { return }
        let keeper = Files.programFolder() + "/demux-keeper"
        var pointers: [UnsafeMutablePointer<CChar>?] = ([keeper, "--", Files.programPath()] + arguments).map { strdup($0) }
        pointers.append(nil)
        execv(keeper, pointers)
        StandardError.line("demux: without a keeper, a guest whose coordinator is killed is lost: could not start \(keeper): \(String(cString: strerror(errno)))")
        for pointer in pointers { free(pointer) }
    }

    /// Whether this process was started only to report that its guest has no coordinator any more; then it has been reported.
    static func reportsBroken(_ arguments: [String]) throws -> Bool {
        guard let reason = getenv(KeeperNames.brokenVariable).map({ String(cString: $0) }) else { return false }
        guard let domain = try DeviceModelArguments(arguments).domain else { return true }
        try BrokenGuest.report(domain, reason)
        return true
    }
}

/// The process that a toolstack takes for the guest's device model.
enum KnownProcess {
    /// Has the toolstack know this process in the place of a keeper that is dead: what ends the guest reaches it, and
    /// not whoever has got the keeper's number since.
    static func becomes(_ pid: pid_t, of domain: DomainID) throws(SystemError) {
        let store = try XenStore()
        let path = XenStorePaths(domain: domain).processID
        // Without it the guest is being destroyed.
        guard try store.read(path) != nil else { return }
        try store.write(path, "\(pid)")
    }
}

/// What a toolstack can see of a guest that cannot go on as it should: libxl looks after no device model once it runs.
enum BrokenGuest {
    /// Writes it to xenstore, in the device model's folder: who watches that sees it, and it goes with the guest.
    static func report(_ domain: DomainID, _ reason: String) throws(SystemError) {
        let store = try XenStore()
        let paths = XenStorePaths(domain: domain)
        // Without the folder the guest is being destroyed.
        guard try store.list(paths.deviceModel) != nil else { return }
        try store.write(paths.broken, reason)
        try store.write(paths.state, XenStorePaths.stateBroken)
    }
}
