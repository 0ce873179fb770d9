import Glibc
import Host

/// What an errno of Xen's means, for the call that gave it, in words and with what to do.
enum XenFailure {
    /// Calls that give the same errno for different mistakes.
    enum Call: Equatable {
        /// About the domain only.
        case domain
        case create
        case map(ServerID)
        case unmap(ServerID)
        /// Anything else that names a server.
        case server(ServerID)
        /// Connecting an event channel of a server.
        case bind(ServerID)

        var isUnmap: Bool { if case .unmap = self { true } else { false } }

        var server: ServerID? {
            switch self {
            case .domain, .create: nil
            case .map(let server), .unmap(let server), .server(let server), .bind(let server): server
            }
        }
    }

    static func open(_ library: String, device: String) -> HostError {
        let code = errno
        let reason: HostError.Reason = code == EACCES || code == EPERM ? .notPermitted : .failed(code)
        let remedy = switch code {
        case EACCES, EPERM: "run as root in dom0, or open the handles before giving up root"
        case ENOENT, ENODEV, ENXIO: "is this dom0 of a running Xen, with the modules xen-privcmd and xen-evtchn loaded?"
        default: ""
        }
        return HostError("open", "\(device) (lib\(library))", reason, detail: words(code), remedy: remedy)
    }

    static func error(_ operation: String, _ subject: String, _ call: Call, code: CInt, domain: DomainID) -> HostError {
        let (reason, detail, remedy) = meaning(call, code: code, domain: domain)
        return HostError(operation, subject, reason, detail: detail, remedy: remedy)
    }

    private static func meaning(_ call: Call, code: CInt, domain: DomainID) -> (HostError.Reason, String, String) {
        switch (call, code) {
        case (_, ESRCH):
            return (.noSuchDomain, "\(domain) does not exist, or no longer does", "`xl list` shows the domains there are")
        case (_, EPERM), (_, EACCES):
            return (
                .notPermitted, "Xen does not let this process do that (\(words(code)))",
                "dom0's root may, for a guest that is not its own; a process restricted to one domain may not act on another")
        case (.bind(let server), EINVAL), (.bind(let server), ENOENT):
            return (
                .invalid, "the event channel of \(server) is not free: another living process has it, or the server is not enabled",
                "end the process that serves it, or enable the server first")
        case (.create, ENOSPC):
            return (
                .noFreeServer, "\(domain) has \(ServerID.limit) ioreq servers already, which is as many as Xen gives",
                "let emulators share a server (isolated), or take one away")
        case (.map(let server), ENOSPC), (.map(let server), ENOMEM):
            // rangeset_add_range says ENOMEM when the set's limit is reached.
            return (.tooManyRanges, "\(server) has 256 separate ranges of that kind already", "claim larger or adjacent ranges")
        case (.unmap(let server), ENOMEM):
            return (
                .failed(code), "it would cut a range in two, and \(server) has 256 already", "unmap the range whole, or another one first")
        case (.map(let server), EEXIST):
            return (.rangeOverlap, "\(server) has a range that overlaps it", "unmap that one first")
        case (.unmap(let server), ENOENT):
            return (.noSuchRange, "\(server) does not have it", "unmap what was mapped, whole or in parts")
        case (.map(let server), ENOENT), (.server(let server), ENOENT), (.server(let server), EINVAL):
            return (.noSuchServer, "\(domain) has no \(server)", "it may have been destroyed")
        case (_, EINVAL), (_, E2BIG):
            return (.invalid, "Xen does not take these values (\(words(code)))", "")
        default:
            return (.failed(code), words(code), code == ENOMEM ? "Xen or dom0 is out of memory: free some" : "")
        }
    }

    static func words(_ code: CInt) -> String { "\(String(cString: strerror(code))), errno \(code)" }
}
