import ControlProtocol
import Glibc
import Platform

/// `demux-web`: one process a host. `demux web` starts it.
@main
struct Web {
    static func main() {
        StandardDescriptors.fill()
        let settings: WebSettings
        do {
            settings = try WebSettings(arguments: Array(CommandLine.arguments.dropFirst()), environment: ChildProcess.currentEnvironment())
        } catch {
            StandardError.line("demux-web: \(error)")
            exit(64)
        }
        // A browser that goes away in the middle of an answer is nothing special.
        signal(SIGPIPE, SIG_IGN)
        raiseDescriptorLimit()
        do {
            try WebServer(settings).run { address in
                StandardError.line("demux web: http://\(address)/ (Ctrl-C to end)")
                if settings.noVNC == nil {
                    StandardError.line("demux web: noVNC is not installed, so guests can be seen and not used: apt-get install novnc")
                }
            }
        } catch {
            StandardError.line("demux-web: \(error)")
            exit(1)
        }
    }

    /// Connections beyond what is served are closed, but have to be accepted for that.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = min(limit.rlim_max, 65_536)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// What the command line says.
struct WebSettings: Sendable {
    var listen = ListenAddress.standard
    /// Names under which browsers may ask for this host, beside addresses and localhost.
    var hostNames: Set<String> = []
    /// Where the guests' sockets are.
    var base: String
    /// Where noVNC's files are; nil when it is not installed.
    var noVNC: String?

    static let noVNCFolder = "/usr/share/novnc"

    init(base: String, noVNC: String?) {
        self.base = base
        self.noVNC = noVNC
    }

    /// - Throws: SystemError for what cannot be used.
    init(arguments: [String], environment: [String: String]) throws(SystemError) {
        base = RunDirectory.base(environment: environment)
        var folder = Self.noVNCFolder
        var rest = arguments[...]
        while let option = rest.popFirst() {
            guard ["--listen", "--host", "--run-dir", "--novnc"].contains(option) else {
                throw SystemError("use", "the argument '\(option)'", reason: "it is not known", remedy: "see 'demux web --help'")
            }
            guard let value = rest.popFirst() else { throw SystemError("use", "the option \(option)", reason: "its value is missing") }
            switch option {
            case "--listen":
                guard let address = ListenAddress(value) else {
                    throw SystemError("listen at", "'\(value)'", reason: "it is not an address and a port", remedy: "write 127.0.0.1:6080 or [::1]:6080")
                }
                listen = address
            case "--host": hostNames.insert(value.lowercased())
            case "--run-dir": base = value
            default: folder = value
            }
        }
        noVNC = access("\(folder)/vnc.html", R_OK) == 0 ? folder : nil
    }
}
