import ArgumentParser
import Platform

@main
enum Main {
    static func main() {
        StandardDescriptors.fill()
        Output.checkAtExit()
        // In each start of a guest: reading the definitions of all the other commands takes a fifth of its time.
        if let asked = SpecCommand.Plain(Array(CommandLine.arguments.dropFirst())) { asked.run() } else { DemuxCommand.main() }
    }
}

struct DemuxCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demux",
        abstract: "Serves a virtual machine with several device-emulator processes.",
        discussion: """
            A guest on Xen is started by xl: 'device_model_override = ".../demux-dm"' in its configuration. A guest without \
            Xen is started by 'demux run'. Either is then looked at and changed with the other subcommands.
            """,
        subcommands: [
            ListCommand.self, StatusCommand.self, TopCommand.self, TraceCommand.self, MetricsCommand.self, LogsCommand.self, CheckCommand.self,
            RunCommand.self, AttachCommand.self, DetachCommand.self, RestartCommand.self, ReplaceCommand.self, AdoptCommand.self,
            UnplugCommand.self, StopCommand.self, ScreenshotCommand.self, DisplayCommand.self, WebCommand.self, SpecCommand.self,
        ]
    )
}
