import ArgumentParser
import ControlProtocol
import EmulatorProtocol

struct UnplugCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unplug",
        abstract: "Remove emulated devices from a running guest, as its PV drivers would.",
        discussion: """
            Emulators and QEMU are asked at the same time; what is unplugged stays so for the guest's life. A guest that still uses such a \
            device loses it. Under the policy 'hold' this also asks those again that a waiting guest waits for.
            """
    )

    @OptionGroup var guest: GuestOptions

    @Option(help: "Classes of devices, with commas between: \(UnplugClass.allCases.map(\.rawValue).joined(separator: ", ")).")
    var classes: String

    @Flag(help: "Only say what would go.")
    var dryRun = false

    /// The coordinator has a deadline of its own, at most ten minutes.
    private static let limit = Duration.seconds(620)

    func validate() throws {
        for word in words where UnplugClass(rawValue: word) == nil {
            throw ValidationError("'\(Table.clean(word))' is no class of devices; there are \(UnplugClass.allCases.map(\.rawValue).joined(separator: ", "))")
        }
    }

    private var words: [String] { classes.split(separator: ",", omittingEmptySubsequences: false).map(String.init) }

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            guard case .done(let text) = try client.ask(.unplug(classes: words, dryRun: dryRun), limit: Self.limit) else { throw client.unexpected }
            for line in text.split(separator: "\n") { Output.line(Table.clean(String(line))) }
        }
    }
}
