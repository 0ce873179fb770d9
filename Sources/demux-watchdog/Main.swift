import CLinux
import Glibc
import Host
import Platform
import Watch
import XenHost

/// The host's watchdog: `demux-watchdog RUN-DIRECTORY`, started by the first coordinator that needs it. It ends when no coordinator is connected.
@main
enum WatchdogProcess {
    /// How long the first coordinator may take to connect.
    private static let patience = Duration.seconds(10)

    static func main() {
        StandardDescriptors.fill()
        guard CommandLine.arguments.count == 2 else {
            StandardError.line("usage: demux-watchdog RUN-DIRECTORY (a coordinator starts it)")
            exit(2)
        }
        signal(SIGPIPE, SIG_IGN)
        Files.closeOnExec(from: 3)
        do { try run(base: CommandLine.arguments[1]) } catch {
            StandardError.line("demux-watchdog: \(error)")
            exit(1)
        }
    }

    private static func run(base: String) throws {
        // Without it the guest was quicker to end than this program to begin.
        guard access(base, F_OK) == 0, let lock = try LockFile.take(WatchSocket.lock(base: base)) else { return }
        let path = WatchSocket.path(base: base)
        let loop = try EventLoop()
        let xen = XenPages()
        let watchdog = try Watchdog(loop: loop, listener: UnixSocket.listen(.messages, path: path)) { try xen.slots(of: $0, $1) }
        // Whoever comes first is nobody's master: their terminal and their log are not ours.
        _ = setsid()
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        for number in 0...2 where null >= 0 { _ = dup2(null, CInt(number)) }
        liftLimit()
        watchdog.idle = { loop.stop() }
        loop.after(patience) { if watchdog.isIdle { loop.stop() } }
        try loop.run()
        // Before the lock is let go of: afterwards it could be a successor's.
        unlink(path)
        _ = consume lock
    }

    /// A socket for each guest, and two handles of Xen's.
    private static func liftLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// Xen's pages, through one set of handles for each guest, for as long as one of its servers is watched.
private final class XenPages {
    private struct Guest { weak var host: XenHost? }
    private var guests: [DomainID: Guest] = [:]

    private final class Page {
        let channel: any SharedChannel
        let host: XenHost
        init(_ host: XenHost, _ server: ServerID) throws(HostError) {
            self.host = host
            channel = try host.openChannel(server)
        }
    }

    func slots(of domain: DomainID, _ server: ServerID) throws -> (SlotPage, AnyObject) {
        let host = try guests[domain]?.host ?? XenHost(domain: domain)
        guests = guests.filter { $0.value.host != nil }
        guests[domain] = Guest(host: host)
        // An observer until it is bound, which it never is.
        let page = try Page(host, server)
        return (page.channel.slots, page)
    }
}
