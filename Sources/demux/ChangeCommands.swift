import ArgumentParser
import CLinux
import ControlProtocol
import Glibc
import Platform

struct DetachCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detach",
        abstract: "Take an emulator out of a running guest.",
        discussion: "It goes in the order that leaves no access without an answer: what it had claimed reads all-ones afterwards."
    )

    @OptionGroup var guest: GuestOptions

    @Argument(help: "The emulator's name, as 'demux status' shows it.")
    var emulator: String

    /// The coordinator gives the emulator time to finish what it has taken.
    private static let limit = Duration.seconds(30)

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            guard case .done(let text) = try client.ask(.detach(name: emulator), limit: Self.limit) else { throw client.unexpected }
            Output.line(Table.clean(text))
        }
    }
}

struct StopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "End a guest without Xen: its emulators and its coordinator.",
        discussion: "A guest on Xen is ended by xl (xl shutdown, xl destroy)."
    )

    @OptionGroup var guest: GuestOptions

    /// The coordinator ends its emulators in order, each within two seconds.
    private static let limit = Duration.seconds(15)

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            // Taken before it is asked to end: afterwards its number could be another process's.
            let process = client.pid.map { demux_pidfd_open($0) } ?? -1
            defer { if process >= 0 { close(process) } }
            guard case .done = try client.ask(.stop) else { throw client.unexpected }
            if process >= 0 {
                var ended = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
                guard poll(&ended, 1, CInt(clamping: Self.limit.components.seconds * 1000)) == 1 else {
                    throw CommandFailure(
                        "domain \(client.domain) was told to stop, and its coordinator (pid \(client.pid ?? 0)) has not ended within "
                            + "\(Self.limit.components.seconds) s; see 'demux status \(client.domain)'")
                }
            }
            Output.line("domain \(client.domain) has stopped")
        }
    }
}
