import ArgumentParser
import ControlProtocol
import Glibc

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the running guests.")

    @Flag(help: "Print JSON: a list of objects with 'domain', 'state' and, for those that answer, 'guest'.")
    var json = false

    @OptionGroup var location: RunDirectoryOptions

    private struct Line: Encodable {
        var domain: UInt16
        var state: String
        var reason: String?
        var guest: GuestStatus?
    }

    func run() throws {
        try carryOut {
            let base = location.base
            // Without this, a directory that may not be read would look like one without guests.
            try RunDirectory.checkReadable(base)
            let entries = Survey.take(base: base)
            if json {
                let lines = entries.map { entry in
                    switch entry.state {
                    case .running(let status): Line(domain: entry.domain, state: "running", guest: status)
                    case .unreachable(let reason):
                        Line(domain: entry.domain, state: reason.word, reason: reason.message(domain: entry.domain, base: base))
                    }
                }
                Output.line(String(decoding: ControlCodec.encode(lines), as: UTF8.self))
            } else if entries.isEmpty {
                Output.errorLine("no guests run (looked in \(base))")
            } else {
                for line in Self.table(entries).lines(style: isatty(STDOUT_FILENO) == 1 ? .terminal : .plain) { Output.line(line) }
            }
        }
    }

    static func table(_ entries: [Survey.Entry]) -> Table {
        var table = Table([.init("DOMAIN", .right), .init("NAME"), .init("HOST"), .init("PID", .right), .init("STATE"), .init("EMULATORS")])
        for entry in entries {
            switch entry.state {
            case .running(let status):
                let emulators = status.emulators.map { $0.state == "serving" ? $0.name : "\($0.name) (\($0.state))" }
                table.add([
                    "\(entry.domain)", status.name, status.host, "\(status.coordinatorPID)", "running",
                    emulators.isEmpty ? "-" : emulators.joined(separator: ", "),
                ])
            case .unreachable(let reason): table.add(["\(entry.domain)", "-", "-", reason.pid.map { "\($0)" } ?? "-", reason.phrase, "-"])
            }
        }
        return table
    }
}
