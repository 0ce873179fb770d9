import ArgumentParser
import ControlProtocol
import Platform
import Specification
import SpecificationFile

struct AttachCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Start one more emulator in a running guest.",
        discussion: """
            The emulator is described by a file, which holds one emulator's keys or a whole specification out of which --name \
            chooses; or else by --name, --program and the other options, which take what the keys of the same names take.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Argument(help: "The emulator's description.", completion: .file(extensions: ["yaml"]))
    var file: String?

    @Option(help: "The emulator's name in this guest, or which one of a specification's to take.")
    var name: String?

    @Option(help: "An absolute path, or the name of a program beside demux.")
    var program: String?

    @Option(name: .customLong("argument"), parsing: .unconditionalSingleValue, help: "One argument for the program; can be repeated.")
    var arguments: [String] = []

    @Option(name: .customLong("option"), help: ArgumentHelp("One option for the emulator; can be repeated.", valueName: "key=value"))
    var options: [String] = []

    @Option(help: "'direct' or 'isolated'.")
    var mode: String?

    @Option(help: ArgumentHelp("The PCI slot that it gets.", valueName: "slot"))
    var pciSlot: String?

    @Option(name: .customLong("interpose"), help: ArgumentHelp("A range in which it is meant to outrank QEMU; can be repeated.", valueName: "range"))
    var interpositions: [String] = []

    @Option(help: ArgumentHelp("How long it may take to get ready: 500ms, 5s.", valueName: "time"))
    var readyWithin: String?

    @Option(help: "The user it becomes.")
    var user: String?

    @Option(help: "The group it becomes a member of.")
    var group: String?

    func validate() throws {
        if file != nil {
            guard program == nil, arguments.isEmpty, options.isEmpty, mode == nil, pciSlot == nil, interpositions.isEmpty, readyWithin == nil,
                user == nil, group == nil
            else { throw ValidationError("The file says all about the emulator; beside it only '--name' can be given.") }
        } else if name == nil || program == nil {
            throw ValidationError("Give a file, or '--name' and '--program'.")
        }
        for option in options where !option.contains("=") || option.hasPrefix("=") {
            throw ValidationError("'--option \(Table.clean(option))' is not of the form key=value.")
        }
    }

    func run() throws {
        try carryOut {
            let emulator = try reportingIssues { () throws(SpecificationErrors) in try description() }
            let client = try guest.connect()
            // The coordinator answers when the emulator serves, or has had its time.
            let limit = ControlClient.answerLimit + .milliseconds(emulator.readyWithinMilliseconds)
            guard case .done(let text) = try client.ask(.attach(emulator), limit: limit) else { throw client.unexpected }
            Output.line(Table.clean(text))
        }
    }

    private func description() throws(SpecificationErrors) -> EmulatorSpecification {
        let reader = SpecificationReader()
        if let file { return try reader.emulator(file: file, named: name) }
        var fields: [(key: String, value: SpecificationReader.Field)] = []
        let texts: [(String, String?)] = [
            ("name", name), ("program", program), ("mode", mode), ("pci-slot", pciSlot), ("ready-within", readyWithin), ("user", user), ("group", group),
        ]
        for (key, text) in texts { if let text { fields.append((key, .text(text))) } }
        if !arguments.isEmpty { fields.append(("arguments", .list(arguments))) }
        if !interpositions.isEmpty { fields.append(("interpose", .list(interpositions))) }
        if !options.isEmpty {
            let pairs = options.map { option -> (key: String, value: String) in
                let key = option.prefix { $0 != "=" }
                return (String(key), String(option.dropFirst(key.count + 1)))
            }
            fields.append(("options", .mapping(pairs)))
        }
        return try reader.emulator(fields: fields, source: "the command line")
    }
}
