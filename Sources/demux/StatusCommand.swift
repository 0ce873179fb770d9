import ArgumentParser
import ControlProtocol
import Glibc
import Platform

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show who serves what in a guest.",
        discussion: "Shows the guest, its emulators with their counters, what each has claimed, QEMU's PCI slots, and where QEMU is outranked."
    )

    @OptionGroup var guest: GuestOptions

    @Flag(help: "Print the status as one line of JSON.")
    var json = false

    @Flag(name: .shortAndLong, help: "Show it again every second until the guest ends (Ctrl-C to leave).")
    var watch = false

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            var status = try client.status()
            var time = EventLoop.now()
            let style: Style = isatty(STDOUT_FILENO) == 1 ? .terminal : .plain
            guard watch else { return show(StatusView(status), style) }
            var frame = 0
            // No time has passed: the column of rates is there from the first frame on, and empty.
            var earlier = (status: status, seconds: 0.0)
            while true {
                redraw(StatusView(status, earlier: earlier), style, frame: frame)
                frame += 1
                sleep(1)
                do {
                    let next = try client.status()
                    let now = EventLoop.now()
                    earlier = (status, Double(now &- time) / 1e9)
                    status = next
                    time = now
                } catch {
                    // The end of a guest is what a watcher waits for; anything else is still an error.
                    guard Self.hasEnded(client) else { throw error }
                    Output.errorLine("the guest has ended")
                    return
                }
            }
        }
    }

    static func hasEnded(_ client: borrowing ControlClient) -> Bool {
        do {
            _ = try ControlSocket.connect(domain: client.domain, base: client.base, limit: nil)
            return false
        } catch {
            return error == .missing || error == .gone
        }
    }

    private func show(_ view: StatusView, _ style: Style) {
        if json {
            Output.line(String(decoding: ControlCodec.encode(view.status), as: UTF8.self))
        } else {
            Output.line(view.lines(style: style).joined(separator: "\n"))
        }
    }

    /// On a terminal in place of the last one, without a flicker: each line clears its own rest. Elsewhere below it.
    private func redraw(_ view: StatusView, _ style: Style, frame: Int) {
        guard style == .terminal, !json else {
            if frame > 0 && !json { Output.line("") }
            return show(view, style)
        }
        var size = winsize()
        let height = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_row > 1 ? Int(size.ws_row) - 1 : Int.max
        let text = view.lines(style: style).prefix(height).map { $0 + "\u{1b}[K\n" }.joined()
        Output.write((frame == 0 ? "\u{1b}[2J" : "") + "\u{1b}[H" + text + "\u{1b}[J")
    }
}
