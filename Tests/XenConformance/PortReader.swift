import Glibc
import Host
import XenHost

/// Has the agent's vCPU 0 read one port: for scenarios that ask who answers.
enum PortReader {
    /// Prints what the guest read, in hexadecimal. Status 0 when it was read.
    static func run(_ arguments: [String]) -> CInt {
        guard arguments.count == 3, let domain = Hex.parse(arguments[0]).flatMap({ DomainID($0) }), let port = Hex.parse(arguments[1]),
            let size = Hex.parse(arguments[2]).flatMap({ UInt32(exactly: $0) })
        else { return 2 }
        do {
            let host = try XenHost(domain: domain)
            let mailbox = Mailbox(memory: try host.guestMemory(), vcpu: 0)
            guard mailbox.isUp else {
                print("the agent does not run in \(domain)")
                return 1
            }
            mailbox.submit(.portRead, address: port, size: size)
            guard mailbox.wait() else {
                print("the guest's access was not answered")
                return 1
            }
            print(Hex.string(mailbox.value))
            return 0
        } catch {
            print("\(error)")
            return 1
        }
    }
}
