import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import Testing

/// A folder of a test's own, removed with everything in it when the test is over.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        // Short: a control socket's path has at most 107 bytes.
        var template = Array("/tmp/demux-proc-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    deinit { Self.remove(path) }

    @discardableResult
    func write(_ text: String, to name: String, mode: mode_t = 0o644) throws -> String {
        let file = "\(path)/\(name)"
        let handle = try #require(fopen(file, "w"))
        let bytes = Array(text.utf8)
        #expect(fwrite(bytes, 1, bytes.count, handle) == bytes.count)
        fclose(handle)
        #expect(chmod(file, mode) == 0)
        return file
    }

    private static func remove(_ path: String) {
        for name in names(in: path) where unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
        rmdir(path)
    }

    /// What is in a folder; nothing when there is none.
    static func names(in path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { found.append(name) }
        }
        return found.sorted()
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
