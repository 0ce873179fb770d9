import ArgumentParser
import ControlProtocol
import Glibc
import Picture
import Platform
import Surface

struct ScreenshotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "screenshot",
        abstract: "Write what a guest shows to a PNG file.",
        discussion: "For guests whose display is Demux's. The pointer that a viewer draws is not part of the picture."
    )

    @OptionGroup var guest: GuestOptions

    @Argument(help: ArgumentHelp("The file to write; '-' is the standard output.", valueName: "file.png"), completion: .file(extensions: ["png"]))
    var file: String

    @Option(help: ArgumentHelp("How many seconds to wait for a picture.", valueName: "seconds"))
    var wait = 5

    func validate() throws {
        guard (0...3600).contains(wait) else { throw ValidationError("'--wait' is 0 to 3600 seconds.") }
    }

    func run() throws {
        try carryOut {
            let base = guest.location.base
            let domain = try guest.guest.resolve(base: base)
            do {
                let screen = try SurfaceSubscription.open(domain: domain, base: base)
                screen.page.set(viewers: 1, maxRate: 0)
                switch try screen.waitForPixels(limit: .seconds(wait)) {
                case .pixels: break
                case .noSurface:
                    throw CommandFailure("domain \(domain) has shown nothing within \(wait) s: its display has no mode yet; wait longer with --wait")
                case .notDrawn:
                    throw CommandFailure(
                        "the display of domain \(domain) has drawn nothing within \(wait) s; see 'demux status \(domain)' and 'demux logs \(domain)'")
                }
                try write(screen)
            } catch let error as Unreachable {
                throw CommandFailure(Table.clean(error.message(domain: domain, base: base)))
            }
        }
    }

    private func write(_ screen: SurfaceSubscription) throws {
        guard let picture = screen.withReader({ Picture(of: $0) }) else { throw CommandFailure("the guest's display went away; try again") }
        if screen.withReader({ $0.isBlank }) ?? false { Output.errorLine("demux: the guest has switched its screen off; this is what it showed last") }
        if file == "-" {
            try Output.write(picture.png())
        } else {
            try picture.write(to: file)
        }
    }
}

struct DisplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "display",
        abstract: "Ask a guest to show another number of pixels.",
        discussion: "A wish: a guest's driver follows it if it can, as when a viewer's window is resized."
    )

    /// Width and height, as in 1920x1080.
    struct Mode: ExpressibleByArgument, Equatable {
        let width: Int
        let height: Int

        init?(argument: String) {
            let parts = argument.split(separator: "x", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let width = Int(parts[0]), let height = Int(parts[1]), SurfaceLayout.length(width: width, height: height) != nil else {
                return nil
            }
            self.width = width
            self.height = height
        }
    }

    @OptionGroup var guest: GuestOptions

    @Option(help: ArgumentHelp("The size: 1920x1080.", valueName: "width x height"))
    var mode: Mode

    func run() throws {
        try carryOut {
            let client = try guest.connect()
            guard case .done(let text) = try client.ask(.displayMode(width: mode.width, height: mode.height)) else { throw client.unexpected }
            Output.line(Table.clean(text))
        }
    }
}
