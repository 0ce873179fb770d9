import CLinux
import Glibc
import Platform

/// The process that a toolstack knows as the guest's device model: it starts the coordinator, holds what its successor needs, and
/// starts that when it dies.
///
///     demux-keeper [--most N] -- PROGRAM [ARGUMENT…]
@main
struct Main {
    static func main() {
        StandardDescriptors.fill()
        var arguments = CommandLine.arguments.dropFirst()
        var most = Restarts.most
        if arguments.first == "--most", let number = arguments.dropFirst().first.flatMap({ Int($0) }), number >= 0 {
            most = number
            arguments = arguments.dropFirst(2)
        }
        guard arguments.first == "--", let program = arguments.dropFirst().first else {
            StandardError.line("demux-keeper: it is started by demux-dm; usage: demux-keeper [--most N] -- PROGRAM [ARGUMENT…]")
            exit(2)
        }
        signal(SIGPIPE, SIG_IGN)
        do {
            let keeper = try Keeper(program: program, arguments: Array(arguments.dropFirst(2)), restarts: Restarts(limit: most))
            exit(try keeper.run())
        } catch {
            StandardError.line("demux-keeper: \(error)")
            exit(1)
        }
    }
}
