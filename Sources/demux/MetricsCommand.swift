import ArgumentParser
import ControlProtocol
import Glibc
import HTTPService
import Platform
import Seeing

struct MetricsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics",
        abstract: "Print this host's guests' counters and latencies in Prometheus' text format, or serve them.",
        discussion: """
            Without an option it prints them once. With --socket or --listen it serves them over HTTP, to whoever can reach the socket or the \
            loopback port, at /metrics, for all guests of the run directory, until Ctrl-C.
            """
    )

    @Option(help: ArgumentHelp("Serve at a UNIX socket (mode 0600).", valueName: "path"), completion: .file())
    var socket: String?

    @Option(help: ArgumentHelp("Serve at a port of the loopback address.", valueName: "127.0.0.1:port"))
    var listen: String?

    @OptionGroup var location: RunDirectoryOptions

    /// A loopback address and a port; nil for anything else.
    static func loopback(_ text: String) -> (host: String, port: UInt16)? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        switch text[..<colon] {
        case "127.0.0.1", "localhost": return ("127.0.0.1", port)
        case "[::1]": return ("::1", port)
        default: return nil
        }
    }

    func validate() throws {
        guard socket == nil || listen == nil else { throw ValidationError("give one of '--socket' and '--listen'.") }
        if let listen, Self.loopback(listen) == nil {
            throw ValidationError("'--listen' is 127.0.0.1:PORT or [::1]:PORT: who wants more puts a server that asks for a password in front of it.")
        }
    }

    func run() throws {
        try carryOut {
            let base = location.base
            try RunDirectory.checkReadable(base)
            guard socket != nil || listen != nil else { return Output.write(Self.page(base: base)) }
            let signals = try SignalDescriptor([SIGINT, SIGTERM, SIGHUP])
            signal(SIGPIPE, SIG_IGN)
            let loop = try EventLoop()
            let checksHost = listen != nil
            let server = try HTTPServer(loop: loop, limits: MetricsSite.limits) { request, _ in
                .answer(MetricsSite.answer(request, checksHost: checksHost) { Self.page(base: base) })
            }
            if let socket {
                let listener = try UnixSocket.listen(.stream, path: socket)
                try listener.setNonBlocking(true)
                try server.serve(TCPListener.Bound(listener, host: socket, port: 0))
                Output.errorLine("metrics at \(socket)")
            } else if let listen, let address = Self.loopback(listen) {
                for bound in try TCPListener.listen(host: address.host, ports: address.port...address.port) {
                    try server.serve(bound)
                    Output.errorLine("metrics at http://\(bound.host.contains(":") ? "[\(bound.host)]" : bound.host):\(bound.port)/metrics")
                }
            }
            try loop.watch(signals.descriptor.raw, for: .readable) { _ in loop.stop() }
            try withExtendedLifetime(server) { try loop.run() }
            if let socket { unlink(socket) }
        }
    }

    /// All guests, as they are now.
    static func page(base: String) -> String {
        var guests: [GuestAccount] = []
        var silent: [UInt16] = []
        for entry in Survey.take(base: base) {
            switch entry.state {
            case .running(let status):
                // A guest that goes away in between, or whose coordinator is of an older version, has its counters all the same.
                let watched = try? ObservationSubscription(domain: entry.domain, base: base, limit: .seconds(1))
                guests.append(GuestAccount(status: status, emulators: watched?.emulators ?? [], time: EventLoop.now()))
            case .unreachable: silent.append(entry.domain)
            }
        }
        return Prometheus.text(guests, unreachable: silent)
    }
}
