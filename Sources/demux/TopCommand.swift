import ArgumentParser
import ControlProtocol
import Glibc
import Platform
import Seeing

struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Show what each emulator of a guest serves, and how fast.",
        discussion: """
            Requests a second and how long they took, from their being taken to their answer, in the time since the last look, by emulator and by \
            claim. The numbers come from memory that the emulators write; nobody is asked. QEMU's requests pass Demux by.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Flag(help: "Look twice, print what came in between, and end.")
    var once = false

    @Flag(help: "Print a line of JSON for each look; latencies are in nanoseconds.")
    var json = false

    @Option(help: ArgumentHelp("Milliseconds between two looks.", valueName: "milliseconds"))
    var interval = 1000

    func validate() throws {
        guard (10...60_000).contains(interval) else { throw ValidationError("'--interval' is 10 to 60000 milliseconds.") }
    }

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            let watched = try Observed.open(client)
            let isTerminal = isatty(STDOUT_FILENO) == 1
            var earlier = try Observed.account(client, watched)
            var frame = 0
            while true {
                usleep(UInt32(interval) * 1000)
                let later: GuestAccount
                do {
                    later = try Observed.account(client, watched)
                } catch {
                    guard StatusCommand.hasEnded(client) else { throw error }
                    Output.errorLine("the guest has ended")
                    return
                }
                show(GuestActivity(earlier, later), frame: frame, isTerminal: isTerminal)
                if once { return }
                earlier = later
                frame += 1
            }
        }
    }

    private func show(_ activity: GuestActivity, frame: Int, isTerminal: Bool) {
        if json { return Output.line(activity.json) }
        var table = Table(GuestActivity.columns.enumerated().map { Table.Column($1, $0 < 2 ? .left : .right) })
        for row in activity.rows { table.add(row) }
        let name = activity.status.name.isEmpty ? "" : " '\(activity.status.name)'"
        var lines = [Table.clean("domain \(activity.status.domain)\(name)"), ""] + table.lines(style: isTerminal ? .terminal : .plain)
        lines += activity.status.emulators.compactMap { emulator in
            emulator.hung.map { Table.clean("\(emulator.name) hangs: \($0.request)\($0.slot.map { ", slot \($0)" } ?? ""), for \(Int($0.seconds)) s") }
        }
        guard isTerminal, !once else {
            if frame > 0 { Output.line("") }
            return Output.line(lines.joined(separator: "\n"))
        }
        var size = winsize()
        let height = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_row > 1 ? Int(size.ws_row) - 1 : Int.max
        let text = lines.prefix(height).map { $0 + "\u{1b}[K\n" }.joined()
        Output.write((frame == 0 ? "\u{1b}[2J" : "") + "\u{1b}[H" + text + "\u{1b}[J")
    }
}

/// Looking into a guest's observation memory.
enum Observed {
    static func open(_ client: borrowing ControlClient, trace: TraceWish? = nil) throws -> ObservationSubscription {
        do {
            return try ObservationSubscription(domain: client.domain, base: client.base, trace: trace)
        } catch {
            throw CommandFailure(Table.clean(error.message(domain: client.domain, base: client.base)))
        }
    }

    /// What is known now.
    static func account(_ client: borrowing ControlClient, _ watched: ObservationSubscription) throws -> GuestAccount {
        let status = try client.status()
        do { try watched.update() } catch { throw CommandFailure(error.message(domain: client.domain, base: client.base)) }
        return GuestAccount(status: status, emulators: watched.emulators, time: EventLoop.now())
    }
}
