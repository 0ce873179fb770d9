import ControlProtocol
import EmulatorProtocol
import Platform
import Specification

/// What the `demux` command asks for.
extension Coordinator {
    func answer(_ request: ControlRequest, _ peer: ControlPeer, _ reply: @escaping (ControlReply) -> Void) {
        switch request {
        case .status:
            context.vnc?.lookAtExporter()
            reply(.status(status))
        case .logs(let lines): reply(.lines(logBook.last(lines)))
        case .attach(let emulator): attach(emulator, reply)
        case .detach(let name): detach(name, reply)
        case .restart(let name): restart(name, reply)
        case .replace(let name, let change): replace(name, with: change, reply)
        case .surface: subscribe(peer, reply)
        case .observe(let trace):
            guard peer.closed == nil else { return reply(.failed("this connection looks at something already")) }
            context.observations.add(peer, tracing: trace)
            reply(.done("observing"))
        case .unplug(let classes, let dryRun): unplug(classes, dryRun: dryRun, reply)
        case .displayMode(let width, let height):
            do {
                try hintMode(width: width, height: height)
                reply(.done("the display was asked for \(width)×\(height); whether the guest follows is its own choice"))
            } catch {
                reply(.failed("\(error)"))
            }
        case .stop:
            guard let stopRequested else {
                return reply(.failed("this guest's life is the toolstack's: use 'xl destroy' or 'xl shutdown'"))
            }
            reply(.done("stopping"))
            stopRequested()
        }
    }

    /// Makes a connection a reader of the surface: its first answer brings its page and doorbells, and the surface when there is one.
    private func subscribe(_ peer: ControlPeer, _ reply: (ControlReply) -> Void) {
        guard context.surfaces.displayName != nil else {
            return reply(.failed("this guest has no display of ours: name one under 'display' in its specification"))
        }
        guard peer.closed == nil else { return reply(.failed("this connection reads the surface already")) }
        let first = FirstSurface()
        do {
            let number = try context.surfaces.add(name: "pid \(peer.pid)") { [weak peer] news, bag in
                switch news {
                case .added: first.page = bag
                case .surface(let size):
                    guard first.isSent else { return first.surface = (size, bag) }
                    peer?.send(.surface(width: size.width, height: size.height), bag)
                }
            }
            peer.closed = { [weak self] in self?.context.surfaces.remove(number) }
            first.isSent = true
            let bag = first.surface?.bag ?? DescriptorBag()
            while let descriptor = first.page?.take() { bag.add(descriptor) }
            peer.send(.surface(width: first.surface?.size.width ?? 0, height: first.surface?.size.height ?? 0), bag)
        } catch {
            reply(.failed("\(error)"))
        }
    }

    /// What comes before the first answer is sent, and goes with it.
    private final class FirstSurface {
        var isSent = false
        var page: DescriptorBag?
        var surface: (size: SurfaceSize, bag: DescriptorBag)?
    }

    private func attach(_ emulator: EmulatorSpecification, _ reply: @escaping (ControlReply) -> Void) {
        guard EmulatorSpecification.isName(emulator.name) else {
            return reply(.failed("'\(emulator.name.prefix(40))' is not a name: use 1 to 32 letters, digits, '-' and '_'"))
        }
        if let dead = sessions.first(where: { $0.name == emulator.name }) {
            guard case .ended = dead.state, !dead.isLeaving else {
                return reply(.failed("this guest has an emulator '\(emulator.name)' already; detach it first or choose another name"))
            }
            return revive(dead, as: emulator, reply)
        }
        guard emulator.mode != .exporter else {
            return reply(.failed("an exporter is started with its guest: put it under 'vnc' in the specification; 'demux restart' starts one that has ended"))
        }
        start(emulator) { [weak self] reason in
            guard let self else { return }
            guard let reason else { return reply(.done("emulator '\(emulator.name)' serves")) }
            if let session = self.sessions.first(where: { $0.name == emulator.name }) {
                session.detach(limit: .seconds(1)) { _ in
                    self.sessions.removeAll { $0 === session }
                    reply(.failed(reason))
                }
            } else {
                reply(.failed(reason))
            }
        }
    }

    /// Puts a new process in a dead one's place, with its server, its state and its device memory.
    func revive(_ dead: EmulatorSession, as emulator: EmulatorSpecification, _ reply: @escaping (ControlReply) -> Void) {
        guard (emulator.mode == .exporter) == (dead.mode == .exporter) else {
            return reply(.failed("'\(emulator.name)' was \(dead.mode == .exporter ? "an exporter" : "no exporter") and cannot become the other; choose another name, or start the same again: \(restartCommand(emulator.name))"))
        }
        dead.cancelRestart()
        dead.holdings.backoff = RestartBackoff()
        succeed(dead, as: emulator) { reason in
            reply(reason.map(ControlReply.failed) ?? .done("emulator '\(emulator.name)' serves"))
        }
    }

    private func detach(_ name: String, _ reply: @escaping (ControlReply) -> Void) {
        guard let session = sessions.first(where: { $0.name == name }) else {
            return reply(.failed(unknownEmulator(name)))
        }
        session.cancelStart()
        replacements[name]?.cancel()
        session.detach { [weak self] reason in
            guard let self else { return }
            self.sessions.removeAll { $0 === session }
            if let reason { return reply(.failed(reason)) }
            self.logBook.note(.info, "emulator '\(name)' was detached")
            reply(.done("emulator '\(name)' was detached"))
        }
    }
}
