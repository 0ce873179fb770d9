import ControlProtocol
import EmulatorProtocol
import Platform

/// The guest's screen, keyboard and pointer, as a toolstack and the `demux` command see them.
extension Coordinator {
    /// Takes keys and pointer events when no emulator does (QEMU's input-send-event); held weakly.
    public var inputSink: (any InputSink)? {
        get { context.input.sink }
        set {
            context.input.sink = newValue
            pointerModeChanged()
        }
    }

    /// To be called when the sink's `takesAbsolute` has changed: the exporter is told.
    public func pointerModeChanged() { context.input.modeChanged?() }

    /// Whether an emulator of ours takes input, so that nothing reaches the sink.
    public var emulatorTakesInput: Bool { context.input.hasEmulator }

    /// The wish for a size, handed on to the display.
    /// - Throws: Refusal when there is no display, or no screen has that size.
    public func hintMode(width: Int, height: Int) throws(Refusal) { try context.surfaces.hint(SurfaceSize(width: width, height: height)) }

    /// What query-vnc wants to know; nil when the guest has no exporter of ours.
    public var vncInformation: VNCInformation? { context.vnc?.information }

    /// Changes the VNC password (change-vnc-password, set_password); nil lets nobody in any more where one is required. While the exporter
    /// is being started again it is kept for it.
    /// - Parameter done: called once, with nil when it was done.
    public func setVNCPassword(_ password: String?, _ done: @escaping (Refusal?) -> Void) {
        withDesk("a VNC password", done) { $0.setPassword(password, done) }
    }

    /// Changes when the VNC password stops to let anybody in (expire_password).
    /// - Parameter at: "now", "never", "+30" (seconds from now) or seconds since 1970.
    public func expireVNCPassword(at: String, _ done: @escaping (Refusal?) -> Void) {
        withDesk("the VNC password's expiry", done) { $0.expirePassword(at, done) }
    }

    /// Sends every VNC viewer away.
    public func disconnectVNC(_ done: @escaping (Refusal?) -> Void) { withDesk("to disconnect viewers", done) { $0.disconnect(done) } }

    private func withDesk(_ asked: String, _ done: (Refusal?) -> Void, _ body: (VNCDesk) -> Void) {
        guard let desk = context.vnc else { return done(Refusal(.unsupported, asked: asked, message: "this guest has no VNC server of ours")) }
        body(desk)
    }
}
