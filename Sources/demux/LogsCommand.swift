import ArgumentParser
import ControlProtocol
import Glibc

struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs",
        abstract: "Print what the coordinator, the emulators and the guest's early output said last."
    )

    @OptionGroup var guest: GuestOptions

    @Option(name: [.customShort("n"), .long], help: ArgumentHelp("How many lines.", valueName: "lines"))
    var lines = 50

    @Flag(name: .shortAndLong, help: "Go on printing what is added, until the guest ends (Ctrl-C to leave).")
    var follow = false

    /// As much as a coordinator keeps; it sends what fits one message.
    private static let most = 2000

    func validate() throws {
        guard (0...Self.most).contains(lines) else { throw ValidationError("'--lines' is 0 to \(Self.most).") }
    }

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            var tail = LogTail(try fetch(client, follow ? Self.most : lines))
            for line in tail.lines.suffix(lines) { Output.line(Table.clean(line)) }
            while follow {
                sleep(1)
                do {
                    let (new, missed) = tail.advance(to: try fetch(client, Self.most))
                    if missed { Output.errorLine("demux: some lines were missed") }
                    for line in new { Output.line(Table.clean(line)) }
                } catch {
                    guard StatusCommand.hasEnded(client) else { throw error }
                    Output.errorLine("the guest has ended")
                    return
                }
            }
        }
    }

    private func fetch(_ client: borrowing ControlClient, _ count: Int) throws -> [String] {
        guard case .lines(let lines) = try client.ask(.logs(lines: count)) else { throw client.unexpected }
        return lines
    }
}

/// The end of a log as it was seen last, to tell what is new in a later view of it.
struct LogTail {
    private(set) var lines: [String]

    init(_ lines: [String]) { self.lines = lines }

    /// Takes a later view: what came after the lines already seen, and whether some between were never seen.
    mutating func advance(to later: [String]) -> (new: [String], missed: Bool) {
        defer { lines = later }
        guard !lines.isEmpty else { return (later, false) }
        // The later view begins somewhere in the earlier one: at the first place from which they agree.
        for start in lines.indices where later.starts(with: lines[start...]) {
            return (Array(later.dropFirst(lines.count - start)), false)
        }
        return (later, true)
    }
}
