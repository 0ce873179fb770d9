import ArgumentParser

struct WebCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "web",
        abstract: "Serve a page that shows this host's guests, live, and opens them in the browser.",
        discussion: """
            Guests are opened with noVNC (Debian's package 'novnc'). The page asks nobody who they are: who reaches the address sees \
            and uses every guest whose VNC exporter wants no password. Listen elsewhere than on the loopback address only behind \
            something that does ask, or reach it from outside by 'ssh -L 6080:127.0.0.1:6080'.
            """
    )

    @Option(help: ArgumentHelp("Where to listen.", valueName: "address:port"))
    var listen = "127.0.0.1:6080"

    @Option(
        name: .customLong("host"),
        help: ArgumentHelp("A name under which browsers may ask, beside localhost and addresses; can be repeated.", valueName: "name"))
    var hosts: [String] = []

    @OptionGroup var location: RunDirectoryOptions

    func run() throws {
        try carryOut {
            let path = try Installed.locate("demux-web", role: "the page's server")
            throw Installed.become(
                path, arguments: ["--run-dir", location.base, "--listen", listen] + hosts.flatMap { ["--host", $0] })
        }
    }
}
