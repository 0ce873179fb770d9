import CLinux
import Glibc
import Platform

/// Connecting to QEMU's monitor without waiting in the call.
enum MonitorConnection {
    /// A connected, non-blocking socket; nil when QEMU does not take one yet: it does not listen so far, or has so many
    /// waiting that one more would have to wait.
    static func attempt(_ path: String) throws(SystemError) -> OwnedDescriptor? {
        let socket = try UnixSocket.make(.stream)
        try socket.setNonBlocking(true)
        if demux_connect_unix(socket.raw, path) == 0 { return socket }
        switch errno {
        case EAGAIN, ECONNREFUSED, ENOENT, EINTR, EINPROGRESS: return nil
        case let code: throw SystemError("connect to", "QEMU's monitor at \(path)", code: code, remedy: "the folder must be the coordinator's own")
        }
    }

    /// Closes the direction to the other side.
    static func endWriting(_ raw: CInt) { _ = shutdown(raw, CInt(SHUT_WR)) }
}

/// How long to wait before the next attempt: only while somebody waits for QEMU, twice as long each time up to a quarter second.
struct Backoff {
    private var next: Duration = .milliseconds(5)

    mutating func take() -> Duration {
        defer { next = min(next * 2, .milliseconds(250)) }
        return next
    }

    mutating func reset() { next = .milliseconds(5) }
}

/// The private sockets at which QEMU's monitors listen: made before QEMU, which inherits them, so that a connection made too early waits
/// in the kernel, and QEMU needs no right to any folder. They do not block, which those that QEMU makes for itself do.
///
/// To be let go of once QEMU has been started: then nobody listens any more when QEMU ends.
public struct PrivateMonitors: ~Copyable {
    /// Where the façade connects to, for libxl.
    public let libxlPath: String
    /// Where Demux's own client connects to.
    public let demuxPath: String
    private let libxlListener: OwnedDescriptor
    private let demuxListener: OwnedDescriptor

    private static let libxlFile = "/qemu-libxl.qmp"
    private static let demuxFile = "/qemu-demux.qmp"

    /// Makes both in a folder that only the coordinator may enter.
    public init(folder: String) throws(SystemError) {
        let first = try UnixSocket.listen(.stream, path: folder + Self.libxlFile)
        let second = try UnixSocket.listen(.stream, path: folder + Self.demuxFile)
        // For QEMU's sake: while it starts, its main thread and its monitor thread both watch the sockets and may both go to take the
        // one connection (seen with QEMU 7.2 on a busy machine). On a blocking socket the second waits for ever, and with it all of QEMU.
        try first.setNonBlocking(true)
        try second.setNonBlocking(true)
        libxlPath = folder + Self.libxlFile
        demuxPath = folder + Self.demuxFile
        libxlListener = first
        demuxListener = second
    }

    /// For `DeviceModelArguments.rewritten`.
    public var libxl: MonitorSocket { .descriptor(libxlListener.raw) }
    public var demux: MonitorSocket { .descriptor(demuxListener.raw) }

    /// For the start of QEMU. The numbers stay the same, so that they clash with no other descriptor that QEMU inherits.
    public var inherited: [ChildProcess.Inherited] {
        [libxlListener.raw, demuxListener.raw].map { ChildProcess.Inherited(ours: $0, theirs: $0) }
    }

    /// Removes the sockets' files; QEMU does not, because it did not make them.
    public static func removeFiles(folder: String) {
        _ = unlink(folder + libxlFile)
        _ = unlink(folder + demuxFile)
    }
}
