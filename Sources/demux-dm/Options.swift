import Glibc
import Host
import Platform

/// How the coordinator was started.
enum Mode {
    /// libxl started it in QEMU's place, with QEMU's arguments.
    case deviceModel([String])
    /// A guest without Xen.
    case local(DomainID)
    /// A trial of a specification against a throw-away guest.
    case check
}

extension Mode {
    /// Reads the command line. The two forms of our own carry `--spec-json -`; anything else is QEMU's list.
    init(arguments: [String]) throws(SystemError) {
        guard let first = arguments.first else {
            throw SystemError(
                "start", "demux-dm", reason: "it has no arguments",
                remedy: "name it in a guest's configuration as device_model_override, or use 'demux run FILE' for a guest without Xen")
        }
        switch first {
        case "--check": self = .check
        case "--local":
            guard let index = arguments.firstIndex(of: "--domid"), arguments.indices.contains(index + 1),
                let number = Int(arguments[index + 1]), let domain = DomainID(number)
            else {
                throw SystemError("start", "a guest without Xen", reason: "--domid is missing or not a domain id", remedy: "use 'demux run'")
            }
            self = .local(domain)
        default: self = .deviceModel(arguments)
        }
    }
}
