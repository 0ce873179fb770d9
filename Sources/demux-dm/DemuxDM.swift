import Glibc
import Logging
import Platform

/// The coordinator's process: started by libxl in QEMU's place, by `demux run` or by `demux check`.
@main
struct DemuxDM {
    static func main() {
        // What was inherited is QEMU's, if anybody's: no child gets a descriptor that was not meant for it.
        let inherited = Files.openDescriptors(from: 3)
        Platform.Files.closeOnExec(from: 3)
        signal(SIGPIPE, SIG_IGN)
        LoggingSystem.bootstrap(StreamLogHandler.standardError)
        let logger = Logger(label: "demux")
        do {
            switch try Mode(arguments: Array(CommandLine.arguments.dropFirst())) {
            case .local(let domain): exit(try LocalGuestProcess.run(domain: domain, logger: logger))
            case .check: exit(try CheckProcess.run(logger: logger))
            case .deviceModel(let arguments): exit(try DeviceModelProcess.run(arguments: arguments, inherited: inherited, logger: logger))
            }
        } catch {
            // libxl shows none of this: it stands in /var/log/xen/qemu-dm-NAME.log.
            StandardError.line("demux: \(error)")
            exit(1)
        }
    }
}
