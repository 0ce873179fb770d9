import CLinux
import FlyingFox
import FlyingSocks
import Foundation
import Glibc
import Platform
import Synchronization

/// One browser's way to a guest's VNC exporter: WebSocket frames on one side, the exporter's UNIX socket on the other. What it
/// carries is not looked at.
///
/// The exporter is read only as fast as the browser takes it, and the browser only as fast as the exporter does.
final class RFBProxy: WSHandler {
    private static let pieceLength = 65_536

    private let descriptor: OwnedDescriptor
    private let pool: any AsyncSocketPool
    /// Answers to pings, to go out before the next piece of data.
    private let answers = Mutex<[WSFrame]>([])
    private let said = Mutex(false)
    private let ended: @Sendable () -> Void

    /// Connects to an exporter's socket, and calls `ended` when the browser and the exporter have both been let go of.
    /// - Throws: SystemError when nobody listens there.
    init(connectingTo path: String, pool: any AsyncSocketPool, ended: @escaping @Sendable () -> Void) throws(SystemError) {
        let socket = try UnixSocket.make(.stream)
        // A full queue is an error, not something to wait for.
        try socket.setNonBlocking(true)
        guard demux_connect_unix(socket.raw, path) == 0 else {
            throw SystemError("connect to", path, remedy: "the guest's VNC exporter must run; 'demux status' shows it")
        }
        descriptor = socket
        self.pool = pool
        self.ended = ended
    }

    deinit { ended() }

    func makeFrames(for client: AsyncThrowingStream<WSFrame, any Error>) async throws -> AsyncStream<WSFrame> {
        let listener = Listener(
            Task {
                do {
                    for try await frame in client { if try await !self.take(frame) { break } }
                } catch {
                    // The browser went away, or sent what is no frame.
                }
                // Wakes the other direction, which ends the connection.
                shutdown(self.descriptor.raw, CInt(SHUT_RDWR))
            })
        return AsyncStream {
            if let frame = await self.next() { return frame }
            // Nobody may be reading from the browser any more when FlyingFox closes its socket, as it does next.
            await listener.end()
            return nil
        }
    }

    /// The direction from the browser. It ends with the other one, also when that is dropped because the browser could not be written to.
    private final class Listener: Sendable {
        private let task: Task<Void, Never>
        init(_ task: Task<Void, Never>) { self.task = task }
        deinit { task.cancel() }

        func end() async {
            task.cancel()
            await task.value
        }
    }

    /// Passes a browser's frame on; false when it is the last one.
    private func take(_ frame: WSFrame) async throws -> Bool {
        switch frame.opcode {
        case .binary, .continuation:
            try await send(frame.payload)
            return true
        case .ping:
            answers.withLock { if $0.count < 8 { $0.append(WSFrame(fin: true, opcode: .pong, mask: nil, payload: frame.payload)) } }
            return true
        case .pong: return true
        // Closed, or something that is not RFB.
        default: return false
        }
    }

    private func send(_ data: Data) async throws {
        var rest = data[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor.raw, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL)) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                try await pool.suspendSocket(socket, untilReadyFor: .write)
            } else if errno != EINTR {
                throw SocketError.disconnected
            }
        }
    }

    /// The next frame for the browser; nil after the last one.
    private func next() async -> WSFrame? {
        if let answer = answers.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return answer }
        if said.withLock({ $0 }) { return nil }
        while true {
            var count = 0
            var code: CInt = 0
            let piece = [UInt8](unsafeUninitializedCapacity: Self.pieceLength) { buffer, initialized in
                count = recv(descriptor.raw, buffer.baseAddress, buffer.count, CInt(MSG_DONTWAIT))
                code = errno
                initialized = max(0, count)
            }
            if count > 0 { return WSFrame(fin: true, opcode: .binary, mask: nil, payload: Data(piece)) }
            if count < 0 && code == EINTR { continue }
            if count < 0 && code == EAGAIN, (try? await pool.suspendSocket(socket, untilReadyFor: .read)) != nil { continue }
            said.withLock { $0 = true }
            // 1000: an ordinary end.
            return WSFrame(fin: true, opcode: .close, mask: nil, payload: Data([0x03, 0xe8]))
        }
    }

    private var socket: Socket { Socket(file: .init(rawValue: descriptor.raw)) }
}
