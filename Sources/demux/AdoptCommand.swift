import ArgumentParser
import ControlProtocol
import Glibc
import Keeping
import Platform

struct AdoptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adopt",
        abstract: "Start another coordinator for a guest whose own was killed.",
        discussion: """
            A guest's keeper does so by itself, until too many have died within a minute. This asks it for one more; with --force also in \
            the place of one that runs but does not answer.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Flag(help: "End the coordinator that runs, and have another take over.")
    var force = false

    /// Milliseconds. A coordinator takes over in a few; on a busy host it may have to wait for its turn.
    private static let limit: CInt = 30_000

    func run() throws {
        try carryOut {
            let base = guest.location.base
            let domain = try guest.guest.resolve(base: base)
            let path = RunDirectory.directory(domain: domain, base: base) + "/" + KeeperNames.socketFile
            let text = try ask(path, domain)
            guard text.hasPrefix("+") else { throw CommandFailure(Table.clean(String(text.dropFirst()))) }
            Output.line(Table.clean(String(text.dropFirst())))
        }
    }

    private func ask(_ path: String, _ domain: UInt16) throws -> String {
        do {
            let socket = try MessageSocket(connectingTo: path)
            try socket.send(Array((force ? KeeperNames.adoptByForce : KeeperNames.adopt).utf8))
            var entry = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, Self.limit) > 0, case .message(let bytes, _) = try socket.receive(wait: false) else {
                throw CommandFailure("the keeper of domain \(domain) gave no answer; see the guest's log, /var/log/xen/qemu-dm-NAME.log")
            }
            return String(decoding: bytes, as: UTF8.self)
        } catch let error as SystemError {
            throw CommandFailure("domain \(domain) has no keeper that could be asked: \(error)")
        }
    }
}
