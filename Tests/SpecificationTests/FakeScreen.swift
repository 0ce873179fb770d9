import ControlProtocol
import Glibc
import Platform
import Surface
import Synchronization
import Testing

/// A coordinator with a surface, and the display behind it: for what a reader asks over the control socket.
final class FakeScreen: Sendable {
    private struct State: ~Copyable {
        var memory: SharedMemory?
        var writer: SurfaceWriter?
        var watch: SurfaceReaderWatch?
        var size = (width: 0, height: 0)
    }

    private let state: Mutex<State> = Mutex(State())
    /// Called with the connection once a reader has been answered; the connection is open for as long.
    private let subscribed: @Sendable (FakeScreen, borrowing MessageSocket) -> Void

    init(_ subscribed: @escaping @Sendable (FakeScreen, borrowing MessageSocket) -> Void = { _, _ in }) { self.subscribed = subscribed }

    /// A new surface; what was there before is retired.
    func setMode(_ width: Int, _ height: Int) throws {
        let memory = try SurfaceMemory.create(width: width, height: height)
        let writer = try SurfaceWriter(memory.descriptor.duplicate(), width: width, height: height)
        let (holder, other) = (Box(memory), Box(writer))
        state.withLock { state in
            state.writer?.retire()
            state.memory = holder.take()
            state.writer = other.take()
            state.size = (width, height)
        }
    }

    /// Fills the surface with one colour and publishes it.
    func draw(_ colour: UInt32) {
        state.withLock { state in
            let size = state.size
            guard state.writer != nil else { return }
            for index in 0..<size.width * size.height { state.writer?.pixels.storeBytes(of: colour, toByteOffset: index * 4, as: UInt32.self) }
            state.writer?.damage(SurfaceRectangle(x: 0, y: 0, width: size.width, height: size.height))
            state.writer?.publish()
            state.watch?.ringFrame()
        }
    }

    /// A sign between a test and the closure that plays the display.
    var modeWanted: Bool {
        get { sign.withLock { $0 } }
        set { sign.withLock { $0 = newValue } }
    }
    private let sign = Mutex(false)

    func setBlank(_ blank: Bool) { state.withLock { $0.writer?.setBlank(blank) } }

    /// What the last reader wants; 0 when it has gone in order.
    var viewers: UInt32 { state.withLock { $0.watch?.viewers ?? 0 } }

    /// Sends the present surface to a reader that has been answered already.
    func announce(on socket: borrowing MessageSocket) throws {
        let raw = socket.descriptor.raw
        try state.withLock { state in
            let descriptor = try Self.readOnly(state.memory)
            let socket = MessageSocket(adopting: try OwnedDescriptor(adopting: raw).copy())
            try socket.send(
                ControlCodec.encode(ControlReply.surface(width: state.size.width, height: state.size.height)), descriptors: descriptor.map { [$0] } ?? [])
            if let descriptor { close(descriptor) }
        }
    }

    /// Answers a reader as the coordinator does.
    func subscribe(on socket: borrowing MessageSocket) throws {
        let page = try SurfaceMemory.createReaderPage()
        let frame = try SurfaceDoorbell()
        let want = try SurfaceDoorbell()
        let watch = Box(try SurfaceReaderWatch(page.readOnly(), frame: frame.ringing.duplicate(), want: want.hearing.duplicate()))
        let (descriptor, size) = try state.withLock { state in
            state.watch = watch.take()
            return (try Self.readOnly(state.memory), state.size)
        }
        var descriptors = [page.descriptor.raw, frame.hearing.raw, want.ringing.raw]
        if let descriptor { descriptors.insert(descriptor, at: 0) }
        try socket.send(ControlCodec.encode(ControlReply.surface(width: size.width, height: size.height)), descriptors: descriptors)
        if let descriptor { close(descriptor) }
        subscribed(self, socket)
    }

    private static func readOnly(_ memory: borrowing SharedMemory?) throws -> CInt? {
        switch memory {
        case .some(let memory): try memory.readOnly().release()
        case .none: nil
        }
    }
}

/// Carries a value with one owner into a closure.
final class Box<Value: ~Copyable> {
    private var value: Value?
    init(_ value: consuming Value) { self.value = consume value }
    func take() -> Value? { value.take() }
}

extension OwnedDescriptor {
    /// A copy, leaving the original to its real owner.
    consuming func copy() throws(SystemError) -> OwnedDescriptor {
        do {
            let copy = try duplicate()
            _ = release()
            return copy
        } catch {
            _ = release()
            throw error
        }
    }
}
