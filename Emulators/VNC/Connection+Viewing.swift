import CLinux
import Glibc
import Platform
import RFB

/// A viewer that is in: its picture, and what it says.
extension Connection {
    /// There is a picture: what the viewer waits for is said, and its thread takes over.
    func show(_ picture: FrameMemory) throws(SystemError) {
        var output = socket.raw
        if tls != nil || usesWebSocket {
            var ends: [CInt] = [-1, -1]
            guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends) == 0 else {
                throw SystemError("create", "a viewer's relay")
            }
            relay = (OwnedDescriptorBox(ends[0]), OwnedDescriptorBox(ends[1]))
            output = ends[0]
            guard DescriptorReserve.allows(ends[0]), DescriptorReserve.allows(ends[1]) else {
                throw SystemError("serve", "a viewer", reason: "too few descriptors are left", remedy: "allow fewer clients, or more open files")
            }
            try server.loop.watch(ends[1], for: .readable) { [unowned self] _ in self.pump() }
        }
        let greeting = ServerMessage.serverInit(width: picture.width, height: picture.height, name: server.settings.name)
        let viewer = try Viewer(
            template: server.template, output: output, picture: picture, gate: server.gate, attention: server.attention.descriptor.raw, greeting: greeting)
        if let cursor = server.screen.cursor { viewer.set(cursor: cursor) }
        try viewer.start()
        stage = .viewing(viewer)
        viewer.say([])
        let waiting = rest
        rest = []
        if !waiting.isEmpty { parse(waiting, viewer) }
    }

    func parse(_ bytes: [UInt8], _ viewer: Viewer) {
        parser.append(bytes)
        do {
            while let message = try parser.next() {
                server.messages &+= 1
                handle(message, viewer)
                guard case .viewing = stage else { return }
            }
        } catch {
            server.statistics["violations", default: 0] += 1
            end(error.description)
        }
    }

    private func handle(_ message: ClientMessage, _ viewer: Viewer) {
        switch message {
        case .setPixelFormat(let format): viewer.set(format: format)
        case .setEncodings(let list):
            let known = Set(list)
            viewer.set(encodings: Encoding.forEncoder(list), showsCursor: known.contains(Encoding.richCursor) || known.contains(Encoding.xCursor))
            if known.contains(Encoding.extendedKeyEvent), !encodings.contains(Encoding.extendedKeyEvent) {
                viewer.say(ServerMessage.pseudoRectangle(Encoding.extendedKeyEvent, width: server.screen.width, height: server.screen.height))
            }
            encodings = known
            tellPointerMode()
        case .updateRequest(let request):
            hasAsked = true
            viewer.request(request)
        case .key(let keysym, let down):
            if !server.settings.viewOnly { server.input.key(server.keyboard.key(keysym, down: down, viewer: number)) }
        case .extendedKey(let keysym, let key, let down):
            guard !server.settings.viewOnly else { return }
            server.input.key(
                key == 0 ? server.keyboard.key(keysym, down: down, viewer: number) : server.keyboard.key(number: key, down: down, viewer: number))
        case .pointer(let buttons, let x, let y):
            guard !server.settings.viewOnly else { return }
            let strokes = pointer.event(
                buttons: buttons, x: x, y: y, width: server.screen.width, height: server.screen.height, absolute: server.isAbsolute,
                sendsSteps: encodings.contains(Encoding.pointerMotionChange))
            server.input.pointer(strokes)
        case .setDesktopSize(let width, let height):
            viewer.answerSize()
            if !server.settings.viewOnly { server.hint(width: Int(width), height: Int(height)) }
        }
    }

    /// Viewers that know QEMU's extension are told which kind of pointer the guest has.
    func tellPointerMode() {
        guard let viewer, encodings.contains(Encoding.pointerMotionChange), toldAbsolute != server.isAbsolute else { return }
        toldAbsolute = server.isAbsolute
        viewer.say(ServerMessage.pseudoRectangle(
            Encoding.pointerMotionChange, x: server.isAbsolute ? 1 : 0, width: server.screen.width, height: server.screen.height))
    }
}
