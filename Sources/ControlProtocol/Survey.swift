import Glibc
import Host
import Platform

/// All guests under a run directory, each asked at the same time: one that hangs costs the others nothing.
public enum Survey {
    /// How long all of them together may take.
    public static let limit = Duration.seconds(2)

    public enum State: Sendable {
        case running(GuestStatus)
        case unreachable(Unreachable)
    }

    public struct Entry: Sendable {
        public let domain: UInt16
        public let state: State
    }

    private final class Asked {
        let domain: UInt16
        let socket: MessageSocket
        init(_ domain: UInt16, _ socket: consuming MessageSocket) {
            self.domain = domain
            self.socket = socket
        }
    }

    /// Every guest with a control socket, in the order of their numbers. A run directory that is not there has no guests.
    public static func take(base: String, limit: Duration = limit) -> [Entry] {
        var entries: [Entry] = []
        var asked: [Asked] = []
        for domain in domains(base: base) {
            do {
                let guest = Asked(domain, try ControlSocket.connect(domain: domain, base: base, limit: nil))
                try ControlSocket.send(.status, on: guest.socket)
                asked.append(guest)
            } catch .missing {
                // A folder without a socket: a guest that is just starting or ending.
                continue
            } catch {
                entries.append(Entry(domain: domain, state: .unreachable(error)))
            }
        }
        let end = EventLoop.now() &+ limit.clampedNanoseconds
        for guest in asked {
            let now = EventLoop.now()
            do {
                let reply = try ControlSocket.receive(on: guest.socket, limit: .nanoseconds(Int64(clamping: end > now ? end - now : 0)))
                switch reply {
                case .status(let status): entries.append(Entry(domain: guest.domain, state: .running(status)))
                case .failed(let reason): entries.append(Entry(domain: guest.domain, state: .unreachable(.other(reason))))
                default: entries.append(Entry(domain: guest.domain, state: .unreachable(.other("an answer to something else"))))
                }
            } catch {
                entries.append(Entry(domain: guest.domain, state: .unreachable(error)))
            }
        }
        return entries.sorted { $0.domain < $1.domain }
    }

    /// The domains that have a folder.
    public static func domains(base: String) -> [UInt16] {
        guard let folder = opendir(base) else { return [] }
        defer { closedir(folder) }
        var found: [UInt16] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) { String(cString: $0) }
            }
            // Only the canonical form of a number: "07" is not domain 7's folder.
            if let domain = UInt16(name).flatMap({ DomainID($0) }), String(domain.rawValue) == name { found.append(domain.rawValue) }
        }
        return found.sorted()
    }
}
