import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import TestTools
import Testing

/// What a test that failed midway has left running: an emulator serves on when its coordinator is gone, as long as its guest may be there.
enum Leftovers {
    /// Kills those of these processes that are children of this one still, and waits for their end.
    static func end(_ pids: Set<pid_t>) {
        for pid in pids where parent(of: pid) == getpid() {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
    }

    /// Kills every process that was started with this in its environment; one's children have it, too.
    /// - Parameter entry: `NAME=value`, with a value of one test's own.
    static func end(startedWith entry: String) {
        // Again until there are none: one that is killed may have started another meanwhile.
        _ = Waiting.until {
            let found = all(startedWith: entry)
            for pid in found { kill(pid, SIGKILL) }
            return found.isEmpty
        }
    }

    private static func all(startedWith entry: String) -> [pid_t] {
        TemporaryFolder.names(in: "/proc").compactMap { pid_t($0) }.filter { pid in
            // One that has ended, or is another user's, cannot be read.
            guard let file = try? Files.open("/proc/\(pid)/environ"), let bytes = try? Files.readAll(file.raw, limit: 1 << 20, what: "an environment") else { return false }
            return bytes.split(separator: 0).contains { $0.elementsEqual(entry.utf8) }
        }
    }

    private static func parent(of pid: pid_t) -> pid_t? {
        guard let file = try? Files.open("/proc/\(pid)/stat"), let bytes = try? Files.readAll(file.raw, limit: 4096, what: "a process's state") else { return nil }
        // Behind the name, which may hold anything: the state, and the parent.
        let words = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        return words.count > 1 ? pid_t(words[1]) : nil
    }
}

/// What the kernel tells of UNIX sockets.
enum UnixSockets {
    /// How many connections a listener at this path has, accepted or about to be.
    static func connected(to path: String) throws -> Int {
        let file = try Files.open("/proc/net/unix")
        let text = String(decoding: try Files.readAll(file.raw, limit: 1 << 24, what: "the sockets"), as: UTF8.self)
        // Num RefCount Protocol Flags Type St Inode Path; a connected socket's state is 3 (SS_CONNECTED).
        return text.split(separator: "\n").count { line in
            let words = line.split(separator: " ")
            return words.count == 8 && words[5] == "03" && words[7] == path
        }
    }
}

/// A control connection as a test needs it: able to send what is no request.
final class ControlConnection {
    let socket: MessageSocket

    init(_ path: String) throws { socket = try MessageSocket(connectingTo: path) }

    func ask(_ request: ControlRequest) throws -> ControlReply {
        try socket.send(ControlCodec.encode(request))
        return try receive()
    }

    /// - Throws: when the coordinator closes the connection, or says nothing.
    func receive() throws -> ControlReply {
        var wait = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
        try #require(poll(&wait, 1, CInt(patience.components.seconds * 1000)) == 1, "hangs: an answer on the control socket")
        guard case .message(let bytes, _) = try socket.receive() else { throw Closed() }
        return try ControlCodec.decode(ControlReply.self, from: bytes)
    }

    struct Closed: Error {}
}

/// LocalHost as Xen is: it cannot hand its pages to another process, so that isolated emulators get a relay.
class PlainHost: Host {
    let local: LocalHost
    init(_ local: LocalHost) { self.local = local }
    var domain: DomainID { local.domain }
    func vcpuCount() throws(HostError) -> Int { try local.vcpuCount() }
    func createServer(ring: Bool) throws(HostError) -> ServerID { try local.createServer(ring: ring) }
    func destroyServer(_ server: ServerID) throws(HostError) { try local.destroyServer(server) }
    func setServer(_ server: ServerID, enabled: Bool) throws(HostError) { try local.setServer(server, enabled: enabled) }
    func map(_ range: IORange, to server: ServerID) throws(HostError) { try local.map(range, to: server) }
    func unmap(_ range: IORange, from server: ServerID) throws(HostError) { try local.unmap(range, from: server) }
    func openChannel(_ server: ServerID) throws(HostError) -> any SharedChannel { try local.openChannel(server) }
    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) { try local.setINTx(device: device, pin: pin, asserted: asserted) }
    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) { try local.setISAInterrupt(line, asserted: asserted) }
    func injectMSI(address: UInt64, data: UInt32) throws(HostError) { try local.injectMSI(address: address, data: data) }
    func crashGuest(_ reason: String) throws(HostError) { try local.crashGuest(reason) }
    func guestMemory() throws(HostError) -> any GuestMemory { try local.guestMemory() }
}
