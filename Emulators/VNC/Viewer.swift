import CLinux
import CVNCServer
import Glibc
import Platform
import RFB
import Surface
import Synchronization

/// Held by the main thread while it changes the shared pixels and says so, and by an encoder's thread while it takes what was said. With
/// that a copy within the pixels can be told to an encoder as a copy exactly when it has not read any of them since the one before.
final class FrameGate: Sendable {
    private let mutex = Mutex<Void>(())
    func pass<Result>(_ body: () throws -> Result) rethrows -> Result { try mutex.withLock { _ in try body() } }
}

/// What happened to the pixels.
enum PictureChange {
    case changed(TileRectangle)
    /// The rectangle has the pixels that were `dx`, `dy` to the upper left of it.
    case copied(TileRectangle, dx: Int, dy: Int)
}

/// One viewer's encoder and the thread that runs it: everything that may wait for the viewer happens there.
///
/// The main thread puts down what is to be done, and never waits. What waits for a slow viewer has a fixed size: requests, formats and
/// changes are joined, pictures replace each other.
final class Viewer: @unchecked Sendable {
    // Sendable: `state` has its lock; the encoder is used by its thread only, after the main thread has made it.

    /// How long, in milliseconds, a viewer may take nothing of what is sent before it is given up. The library looks every five seconds.
    static let patience: CInt = 10_000
    /// Changes that are kept apart for a slow viewer; beyond, everything has changed.
    private static let mostChanges = 1024

    private struct State {
        var preamble: [UInt8] = []
        var format: PixelFormat?
        var encodings: [Int32]?
        var showsCursor = false
        var requests: [ClientMessage.UpdateRequest] = []
        var picture: FrameMemory?
        var changes: [PictureChange] = []
        var cursor: SurfaceCursor??
        var sizeAnswer = false
        var stop = false
        var sending = false
        /// The encoder has a request that it has not answered; it has something that it has not sent.
        var isAsked = false
        var hasNews = false
        var isFinished = false
        var updates: UInt64 = 0
        var bytes: UInt64 = 0
        var rectangles: UInt64 = 0

        /// Whether the thread could do anything now: a wish without a change, or a change without a wish, waits for the other, which saves
        /// one wake-up of two in each update. What has gathered is handed over before it would have to be joined.
        var isWorthWaking: Bool {
            sending || stop || !preamble.isEmpty || format != nil || encodings != nil || picture != nil || cursor != nil || sizeAnswer
                || requests.contains { !$0.incremental } || (isAsked || !requests.isEmpty) && (hasNews || !changes.isEmpty) || changes.count >= 64
        }
    }

    private let state: Mutex<State>
    private let gate: FrameGate
    private let wake: EventFD
    private let attention: CInt
    private let feedIn: OwnedDescriptor
    private let feedOut: OwnedDescriptor
    private let output: CInt
    private let encoder: UnsafeMutablePointer<demux_encoder>
    private var picture: FrameMemory
    private var showsCursor = false
    /// Whether the guest has ever had a cursor: until then the viewer keeps its own.
    private var hasCursor = false
    private var lastBytes: UInt32 = 0
    private var lastRectangles: UInt32 = 0

    /// - Parameters:
    ///   - output: where updates are written; non-blocking, and open until `isFinished`.
    ///   - attention: an eventfd that is rung when the thread has ended.
    ///   - greeting: what is sent before everything else.
    init(template: UnsafePointer<rfbScreenInfo>, output: CInt, picture: FrameMemory, gate: FrameGate, attention: CInt, greeting: [UInt8]) throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends) == 0 else {
            throw SystemError("create", "a viewer's socket pair")
        }
        feedIn = OwnedDescriptor(adopting: ends[0])
        feedOut = OwnedDescriptor(adopting: ends[1])
        wake = try EventFD()
        for number in [ends[0], ends[1], output, wake.descriptor.raw] where !DescriptorReserve.allows(number) {
            throw SystemError("serve", "a viewer", reason: "too few descriptors are left", remedy: "allow fewer clients, or more open files")
        }
        let version = Handshake.greeting
        guard write(ends[1], version, version.count) == version.count, let made = demux_encoder_create(template, ends[0], Self.patience) else {
            throw SystemError("make", "an encoder for a viewer", reason: "libvncserver has none")
        }
        encoder = made
        self.output = output
        self.picture = picture
        self.gate = gate
        self.attention = attention
        var first = State()
        first.preamble = greeting
        first.picture = picture
        state = Mutex(first)
        // The versions that it and we have said to each other.
        var scratch = [UInt8](repeating: 0, count: 64)
        _ = read(ends[0], &scratch, scratch.count)
        _ = read(ends[1], &scratch, scratch.count)
        demux_encoder_set_socket(encoder, output)
        demux_encoder_set_pixels(encoder, picture.pixels, CInt(picture.width), CInt(picture.height))
    }

    deinit { demux_encoder_destroy(encoder) }

    /// Starts the thread.
    func start() throws(SystemError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, 512 << 10)
        var thread = pthread_t()
        let held = Unmanaged.passRetained(self)
        let code = pthread_create(&thread, &attributes, { pointer in
            guard let pointer else { return nil }
            let viewer = Unmanaged<Viewer>.fromOpaque(pointer).takeRetainedValue()
            viewer.serve()
            return nil
        }, held.toOpaque())
        guard code == 0 else {
            held.release()
            throw SystemError("start", "a viewer's thread", code: code)
        }
    }

    // MARK: for the main thread

    var isFinished: Bool { state.withLock { $0.isFinished } }
    var counts: (updates: UInt64, bytes: UInt64, rectangles: UInt64) { state.withLock { ($0.updates, $0.bytes, $0.rectangles) } }

    /// Ends the thread; whoever calls this has shut the output down, so that it waits for nothing.
    func stop() { tell { $0.stop = true } }

    func set(format: PixelFormat) { tell { $0.format = format } }

    func set(encodings: [Int32], showsCursor: Bool) {
        tell {
            $0.encodings = encodings
            $0.showsCursor = showsCursor
        }
    }

    func request(_ request: ClientMessage.UpdateRequest) {
        // A request for no pixels is none: joined with another one it would make that larger.
        guard request.width > 0, request.height > 0 else { return }
        tell { state in
            if let index = state.requests.firstIndex(where: { $0.incremental == request.incremental }) {
                state.requests[index] = Self.union(state.requests[index], request)
            } else {
                state.requests.append(request)
            }
        }
    }

    /// Has bytes sent between updates, ahead of the next one. At most a few hundred may wait.
    func say(_ bytes: [UInt8]) { tell { if $0.preamble.count < 4096 { $0.preamble += bytes } } }

    func answerSize() { tell { $0.sizeAnswer = true } }

    func set(cursor: SurfaceCursor?) { tell { $0.cursor = .some(cursor) } }

    /// Another picture altogether.
    func show(_ picture: FrameMemory) {
        tell {
            $0.picture = picture
            $0.changes = []
        }
    }

    /// What changed in the picture; called within the gate. `showChanges` has to follow when the gate has been passed: a thread that was woken
    /// before would only wait for the gate, which is one more wake-up in every update.
    func apply(_ changes: [PictureChange]) {
        state.withLock { state in
            let whole = TileRectangle(x: 0, y: 0, width: 8192, height: 8192)
            if state.changes.count + changes.count > Self.mostChanges {
                state.changes = [.changed(whole)]
                return
            }
            for change in changes {
                // While it sends, it may have read the pixels before or after the copy: then they are just sent.
                if state.sending, case .copied(let area, _, _) = change { state.changes.append(.changed(area)) } else { state.changes.append(change) }
            }
        }
    }

    func showChanges() { tell { _ in } }

    private func tell(_ body: (inout State) -> Void) {
        let rings = state.withLock { state in
            body(&state)
            return state.isWorthWaking
        }
        if rings { wake.ring() }
    }

    private static func union(_ a: ClientMessage.UpdateRequest, _ b: ClientMessage.UpdateRequest) -> ClientMessage.UpdateRequest {
        let (x, y) = (min(a.x, b.x), min(a.y, b.y))
        let right = max(UInt32(a.x) + UInt32(a.width), UInt32(b.x) + UInt32(b.width))
        let bottom = max(UInt32(a.y) + UInt32(a.height), UInt32(b.y) + UInt32(b.height))
        return ClientMessage.UpdateRequest(
            incremental: a.incremental, x: x, y: y, width: UInt16(clamping: right - UInt32(x)), height: UInt16(clamping: bottom - UInt32(y)))
    }

    // MARK: the thread

    private func serve() {
        while true {
            var entry = pollfd(fd: wake.descriptor.raw, events: Int16(POLLIN), revents: 0)
            if poll(&entry, 1, -1) < 0 && errno != EINTR { break }
            wake.clear()
            let work: State = gate.pass {
                state.withLock { state in
                    let work = state
                    state.preamble = []
                    state.format = nil
                    state.encodings = nil
                    state.requests = []
                    state.picture = nil
                    state.changes = []
                    state.cursor = nil
                    state.sizeAnswer = false
                    state.sending = true
                    return work
                }
            }
            if work.stop || !carryOut(work) { break }
        }
        state.withLock { $0.isFinished = true }
        EventFD.ring(attention)
    }

    /// False when the viewer is gone.
    private func carryOut(_ work: State) -> Bool {
        if !work.preamble.isEmpty, demux_encoder_write(encoder, work.preamble, CInt(work.preamble.count)) != 0 { return false }
        if let format = work.format { guard hear(EncoderMessage.setPixelFormat(format)) else { return false } }
        if let encodings = work.encodings {
            guard hear(EncoderMessage.setEncodings(encodings)) else { return false }
            showsCursor = work.showsCursor
            demux_encoder_set_shapes(encoder, showsCursor && hasCursor ? 1 : 0)
        }
        if let next = work.picture, next !== picture {
            demux_encoder_set_pixels(encoder, next.pixels, CInt(next.width), CInt(next.height))
            picture = next
        }
        for change in work.changes {
            switch change {
            case .changed(let area): demux_encoder_mark(encoder, CInt(area.x), CInt(area.y), CInt(area.width), CInt(area.height))
            case .copied(let area, let dx, let dy):
                demux_encoder_copied(encoder, CInt(area.x), CInt(area.y), CInt(area.width), CInt(area.height), CInt(dx), CInt(dy))
            }
        }
        if let cursor = work.cursor { set(cursor) }
        if work.sizeAnswer { demux_encoder_say_size(encoder, 1, 4) }
        for request in work.requests {
            demux_encoder_request(
                encoder, CInt(request.x), CInt(request.y), CInt(request.width), CInt(request.height), request.incremental ? 1 : 0)
        }
        // A change of size takes an update of its own; what else there is follows with the second.
        var sent: UInt64 = 0
        for _ in 0..<3 where demux_encoder_is_open(encoder) != 0 && demux_encoder_has_request(encoder) != 0 {
            if demux_encoder_update(encoder) == 0 { break }
            sent += 1
        }
        let bytes = demux_encoder_bytes(encoder)
        let rectangles = demux_encoder_rectangles(encoder)
        let isAsked = demux_encoder_has_request(encoder) != 0
        let hasNews = demux_encoder_has_news(encoder) != 0
        state.withLock {
            $0.sending = false
            $0.isAsked = isAsked
            $0.hasNews = hasNews
            $0.updates += sent
            $0.bytes += UInt64(bytes &- lastBytes)
            $0.rectangles += UInt64(rectangles &- lastRectangles)
        }
        (lastBytes, lastRectangles) = (bytes, rectangles)
        return demux_encoder_is_open(encoder) != 0
    }

    private func set(_ cursor: SurfaceCursor?) {
        guard cursor != nil || hasCursor else { return }
        hasCursor = true
        let shown: CInt = showsCursor ? 1 : 0
        guard let cursor else { return demux_encoder_set_cursor(encoder, nil, 0, 0, 0, 0, shown) }
        demux_encoder_set_cursor(encoder, cursor.pixels, CInt(cursor.width), CInt(cursor.height), CInt(cursor.hotX), CInt(cursor.hotY), shown)
    }

    /// Tells the library what the viewer has said. It is one of two messages, checked and whole, so that reading it never waits; whatever
    /// the library answers goes on to the viewer.
    private func hear(_ message: [UInt8]) -> Bool {
        guard write(feedOut.raw, message, message.count) == message.count else { return false }
        demux_encoder_hear(encoder, feedIn.raw)
        demux_encoder_set_socket(encoder, output)
        var answer = [UInt8](repeating: 0, count: 4096)
        while true {
            let length = read(feedOut.raw, &answer, answer.count)
            if length <= 0 { break }
            if demux_encoder_write(encoder, answer, CInt(length)) != 0 { return false }
        }
        return demux_encoder_is_open(encoder) != 0
    }
}
