import ArgumentParser
import CLinux
import ControlProtocol
import Glibc
import Platform
import SpecificationFile

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

struct RestartCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restart",
        abstract: "Start an emulator's program again.",
        discussion: """
            One that has ended or is parked gets another process, on its server and with what it kept. One that serves is ended first, if another process can \
            go on from what it keeps; for the VNC server, viewers then connect again.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Argument(help: "The emulator's name, as 'demux status' shows it.")
    var emulator: String

    /// The coordinator answers when the emulator serves, or has had its time.
    private static let limit = Duration.seconds(130)

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            guard case .done(let text) = try client.ask(.restart(name: emulator), limit: Self.limit) else { throw client.unexpected }
            Output.line(Table.clean(text))
        }
    }
}

struct ReplaceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace",
        abstract: "Put another program in a running emulator's place.",
        discussion: """
            The new one starts while the old one serves; then it goes on from the old one's state, on the same server and with the same claims. The guest sees a \
            pause, nothing else. When the new one does not get to serve, or does not accept the version of the state, the old one goes on.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Argument(help: "The emulator's name, as 'demux status' shows it.")
    var emulator: String

    @Option(help: "An absolute path, or the name of a program beside demux.")
    var program: String

    @Option(name: .customLong("argument"), parsing: .unconditionalSingleValue, help: "One argument for the program, in place of those that it has; can be repeated.")
    var arguments: [String] = []

    @Option(
        name: .customLong("option"), help: ArgumentHelp("One option for the emulator, beside those that it has; can be repeated.", valueName: "key=value"))
    var options: [String] = []

    @Option(help: ArgumentHelp("How long the guest's accesses may wait for the new one: 250ms, 1s. Otherwise as its specification says.", valueName: "time"))
    var successorWithin: String?

    /// The coordinator gives the new one its time to start, and then to take over.
    private static let limit = Duration.seconds(130)

    func validate() throws {
        for option in options where !option.contains("=") || option.hasPrefix("=") {
            throw ValidationError("'--option \(Table.clean(option))' is not of the form key=value.")
        }
    }

    func run() throws {
        try carryOut {
            let change = try reportingIssues { () throws(SpecificationErrors) in try self.change() }
            let client = try guest.connect()
            guard case .done(let text) = try client.ask(.replace(name: emulator, change: change), limit: Self.limit) else { throw client.unexpected }
            Output.line(Table.clean(text))
        }
    }

    /// Read as an emulator's description is, so that what is wrong is said in the same words.
    private func change() throws(SpecificationErrors) -> ProgramChange {
        var fields: [(key: String, value: SpecificationReader.Field)] = [("name", .text(emulator)), ("program", .text(program))]
        if !arguments.isEmpty { fields.append(("arguments", .list(arguments))) }
        if !options.isEmpty {
            fields.append(
                ("options", .mapping(options.map { option -> (key: String, value: String) in
                    let key = option.prefix { $0 != "=" }
                    return (String(key), String(option.dropFirst(key.count + 1)))
                })))
        }
        if let successorWithin { fields.append(("successor-within", .text(successorWithin))) }
        let wanted = try SpecificationReader().emulator(fields: fields, source: "the command line")
        return ProgramChange(
            program: wanted.program, arguments: arguments.isEmpty ? nil : wanted.arguments, options: options.isEmpty ? nil : wanted.options,
            successorWithinMilliseconds: successorWithin == nil ? nil : wanted.successorWithinMilliseconds)
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
