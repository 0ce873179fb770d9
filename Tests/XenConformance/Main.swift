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
        if arguments.first == "--read" { exit(PortReader.run(Array(arguments.dropFirst()))) }
        if arguments.count == 2, arguments[0] == "--death", let domain = Hex.parse(arguments[1]).flatMap({ DomainID($0) }) {
            exit(DeathWatch.run(domain))
        }
        guard arguments.count == 1, let number = Hex.parse(arguments[0]), let domain = DomainID(number) else {
            let usage = Array("usage: demux-conformance [--death] DOMID, or --read DOMID PORT SIZE\nDOMID: a running HVM guest of the rig's agent, with two vCPUs\n".utf8)
            _ = write(2, usage, usage.count)
            exit(2)
        }
        let tap = Tap()
        do {
            let host = try XenHost(domain: domain)
            let memory = try host.guestMemory()
            let vcpus = try host.vcpuCount()
            let mailboxes = (0..<vcpus).map { Mailbox(memory: memory, vcpu: $0) }
            guard mailboxes.allSatisfy({ $0.isUp }) else {
                tap.check("the agent is up on every vCPU", false, "up: \(mailboxes.map { $0.isUp })")
                tap.plan()
                exit(1)
            }
            let driver = try XenGuestDriver(domain: domain, memory: memory, mailboxes: mailboxes)
            tap.add(ConformanceSuite.run(host: host, driver: driver, first: tap.count + 1) { Tap.line($0) })
            let cases = XenCases(tap: tap, host: host, memory: memory, mailboxes: mailboxes)
            cases.run()
        } catch {
            tap.check("the guest is reached", false, "\(error)")
        }
        tap.plan()
        exit(tap.failed == 0 ? 0 : 1)
    }
}
