import Glibc
import Keeping
import Logging
import Platform

/// The coordinator's process: started by libxl in QEMU's place, by `demux run` or by `demux check`.
@main
struct DemuxDM {
    static func main() {
        StandardDescriptors.fill()
        let arguments = Array(CommandLine.arguments.dropFirst())
        // Before anything else: it gets all that we have inherited, as it is.
        KeeperLaunch.becomeKeeper(arguments)
        // What was inherited is QEMU's, if anybody's: no child gets a descriptor that was not meant for it.
        let inherited = Files.openDescriptors(from: 3)
        Platform.Files.closeOnExec(from: 3)
        signal(SIGPIPE, SIG_IGN)
        LoggingSystem.bootstrap(StreamLogHandler.standardError)
        let logger = Logger(label: "demux")
        do {
            if try KeeperLaunch.reportsBroken(arguments) { exit(0) }
            let keeper = try KeeperLink.inherited()
            switch try Mode(arguments: arguments) {
            case .local(let domain): exit(try LocalGuestProcess.run(domain: domain, logger: logger))
            case .check: exit(try CheckProcess.run(logger: logger))
            case .deviceModel(let arguments):
                let others = inherited.filter { $0 != keeper?.descriptor }
                exit(try DeviceModelProcess.run(arguments: arguments, inherited: others, keeper: keeper, logger: logger))
            }
        } catch {
            // libxl shows none of this: it stands in /var/log/xen/qemu-dm-NAME.log.
            StandardError.line("demux: \(error)")
            exit(1)
        }
    }
}
