import Glibc
import Host
import HostConformance
import XenHost

/// The host conformance suite on real Xen, and what only Xen has: run in dom0 against a guest of the rig's agent.
/// Prints TAP; exits 0 when everything is ok, 1 when not, 2 for a wrong command line.
@main
enum Conformance {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.first == "--direct" { exit(DirectChild.run(Array(arguments.dropFirst()))) }
        if arguments.count == 2, arguments[0] == "--pages", let domain = Hex.parse(arguments[1]).flatMap({ DomainID($0) }) {
            guard let info = try? XenControl().info(domain) else { exit(1) }
            print(info.pages)
            exit(0)
        }
        if arguments.first == "--read" { exit(PortReader.run(Array(arguments.dropFirst()))) }
        if arguments.count == 2, arguments[0] == "--death", let domain = Hex.parse(arguments[1]).flatMap({ DomainID($0) }) {
            exit(DeathWatch.run(domain))
        }
        let destructive = arguments.first == "--destructive"
        guard let last = arguments.last, arguments.count == (destructive ? 2 : 1), let domain = Hex.parse(last).flatMap({ DomainID($0) }) else {
            let usage = Array(
                """
                usage: demux-conformance [--destructive | --death] DOMID, or --read DOMID PORT SIZE
                DOMID: a running HVM guest of the rig's agent, with two vCPUs
                  --destructive   only the cases that end the guest's life: the first of them does
                  --death         watches the guest until it is destroyed

                """.utf8)
            _ = write(2, usage, usage.count)
            exit(2)
        }
        let tap = Tap()
        do { try run(domain, destructive: destructive, tap) } catch { tap.check("the guest is reached", false, "\(error)") }
        tap.plan()
        exit(tap.failed == 0 ? 0 : 1)
    }

    private static func run(_ domain: DomainID, destructive: Bool, _ tap: Tap) throws {
        let host = try XenHost(domain: domain)
        let memory = try host.guestMemory()
        let mailboxes = (0..<(try host.vcpuCount())).map { Mailbox(memory: memory, vcpu: $0) }
        guard mailboxes.allSatisfy({ $0.isUp }) else {
            return tap.check("the agent is up on every vCPU", false, "up: \(mailboxes.map { $0.isUp })")
        }
        let driver = try XenGuestDriver(domain: domain, memory: memory, mailboxes: mailboxes)
        if destructive { return runDestructive(host, driver, tap) }
        tap.add(ConformanceSuite.run(host: host, driver: driver, first: tap.count + 1) { Tap.line($0) })
        XenCases(tap: tap, host: host, memory: memory, mailboxes: mailboxes).run()
    }

    /// The suite's cases that end the guest, up to the first that did.
    private static func runDestructive(_ host: XenHost, _ driver: XenGuestDriver, _ tap: Tap) {
        for item in ConformanceSuite.cases where item.destructive {
            if driver.isOver {
                tap.note("not run, because it needs a guest of its own: \(item.sentence)")
                continue
            }
            do {
                try ConformanceSuite.run(item, host: host, driver: driver)
                tap.check(item.sentence, true)
            } catch {
                tap.check(item.sentence, false, "\(error)")
            }
        }
        tap.check("the guest's life has ended", driver.isOver)
    }
}
