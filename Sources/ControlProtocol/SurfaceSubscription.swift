import Glibc
import Platform
import Surface

/// A reader of one guest's surface, by its control socket: what `demux screenshot` and `demux web` are.
///
/// It ends with the connection: closing this end takes the reader away from the display. Not Sendable: it belongs to one thread.
public final class SurfaceSubscription {
    private let socket: MessageSocket
    /// What this reader wants of the display; nothing until `set`.
    public let page: SurfaceReaderPage
    /// The surface that is shown now; nil while the guest has none.
    private var reader: SurfaceReader?

    /// Readable when the guest has another surface (`update`), or is gone.
    public var descriptor: CInt { socket.descriptor.raw }

    /// Connects and subscribes; waits at most `limit` for the answer.
    public static func open(domain: UInt16, base: String, limit: Duration = ControlSocket.answerLimit) throws(Unreachable) -> SurfaceSubscription {
        let socket = try ControlSocket.connect(domain: domain, base: base, limit: limit)
        try ControlSocket.send(.surface, on: socket)
        return try SurfaceSubscription(socket, limit: limit)
    }

    /// Takes the answer to a `surface` request that was sent on a connection.
    /// - Throws: Unreachable when there is none within `limit`, when it is a refusal, and when what came with it is not a surface.
    public init(_ socket: consuming MessageSocket, limit: Duration) throws(Unreachable) {
        let (reply, descriptors) = try ControlSocket.receivePacket(on: socket, limit: limit)
        var first: SurfaceReader?
        switch reply {
        case .surface(let width, let height): if width != 0 || height != 0 { first = try Self.surface(width, height, descriptors) }
        case .failed(let reason): throw .other(reason)
        default: throw .other("the coordinator gave an answer to something else; it and this program must be of the same version")
        }
        guard let pageMemory = descriptors.take(), let frame = descriptors.take(), let want = descriptors.take() else {
            throw .other("the coordinator did not send a reader's page and its doorbells; it and this program must be of the same version")
        }
        let page: SurfaceReaderPage
        do {
            page = try SurfaceReaderPage(pageMemory, frame: frame, want: want)
        } catch {
            throw .other("\(error)")
        }
        self.page = page
        self.socket = socket
        reader = first
    }

    /// Looks at the surface; nil when there is none.
    public func withReader<Result>(_ body: (borrowing SurfaceReader) throws -> Result) rethrows -> Result? {
        switch reader {
        case .some(let reader): try body(reader)
        case .none: nil
        }
    }

    /// Takes what the coordinator has sent since; only the newest surface counts.
    /// - Throws: Unreachable.closed when the guest is gone.
    public func update() throws(Unreachable) {
        // Bounded: a coordinator that sends without end is not listened to without end.
        for _ in 0..<64 {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, 0) == 1 else { return }
            let (reply, descriptors) = try ControlSocket.receivePacket(on: socket, limit: .zero)
            switch reply {
            case .surface(0, 0): reader = nil
            case .surface(let width, let height): reader = try Self.surface(width, height, descriptors)
            case .failed(let reason): throw .other(reason)
            default: break
            }
        }
    }

    /// What a wait for pixels ended with.
    public enum Shown: Equatable, Sendable {
        /// The surface has pixels.
        case pixels
        /// The guest has shown nothing yet.
        case noSurface
        /// There is a surface, and the display has not drawn into it yet.
        case notDrawn
    }

    /// Waits until the surface shows what the guest shows. The display draws anew for a reader that begins to want something
    /// (`page.set`, after which this is to be called): before, its pixels may be those of the last time that somebody looked.
    /// - Parameter redraw: how long to wait for that when there are pixels already.
    /// - Throws: Unreachable.closed when the guest goes away.
    public func waitForPixels(limit: Duration, redraw: Duration = .seconds(1)) throws(Unreachable) -> Shown {
        let start = EventLoop.now()
        let end = start &+ limit.clampedNanoseconds
        let old = reader?.frame ?? 0
        var surfaces = 0
        while true {
            page.clear()
            let had = reader != nil
            try update()
            if !had && reader != nil { surfaces += 1 }
            let frame = reader?.frame ?? 0
            let now = EventLoop.now()
            if frame > 0 && (frame != old || surfaces > 0 || now &- start >= redraw.clampedNanoseconds) { return .pixels }
            guard now < end else { return frame > 0 ? .pixels : reader == nil ? .noSurface : .notDrawn }
            let next = frame > 0 ? min(end, start &+ redraw.clampedNanoseconds) : end
            var waiting = [
                pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: page.frameDescriptor, events: Int16(POLLIN), revents: 0),
            ]
            _ = poll(&waiting, 2, CInt(clamping: (next > now ? next - now : 0) / 1_000_000 + 1))
        }
    }

    private static func surface(_ width: Int, _ height: Int, _ descriptors: DescriptorBag) throws(Unreachable) -> SurfaceReader {
        guard let memory = descriptors.take() else { throw .other("the coordinator announced a surface and did not send it") }
        do {
            return try SurfaceReader(memory, width: width, height: height)
        } catch {
            throw .other("\(error)")
        }
    }
}
