import EmulatorProtocol
import Glibc
import Host
import Platform

/// The parts that displays, exporters and those who take input play.
extension EmulatorSession {
    /// What an exporter may say.
    func serveExporter(_ packet: Packet) throws(Refusal) {
        switch packet.body {
        case .ready: return try getReady(re: packet.id)
        case .log(let log): return record(log)
        case .input(let input):
            try refuseIfViewOnly(packet)
            try context.input.take(input)
        case .modeHint(let size):
            try refuseIfViewOnly(packet)
            try context.surfaces.hint(size)
        case .vncStatus(let status): context.vnc?.note(status)
        default: throw Refusal(.unsupported, asked: packet.body.type, message: "an exporter has neither a server nor the guest's memory")
        }
        if packet.id != nil { send(.ok(Reply()), re: packet.id) }
    }

    /// Whatever its exporter says, whoever looks at a view-only guest changes nothing.
    private func refuseIfViewOnly(_ packet: Packet) throws(Refusal) {
        guard context.vnc?.specification.viewOnly == true else { return }
        throw Refusal(.order, asked: packet.body.type, message: "the guest's specification has 'view-only' under 'vnc'")
    }

    /// The exporter's sockets and settings.
    func exporterAttachment(_ bag: DescriptorBag) throws -> Attach {
        guard let desk = context.vnc, let server = ServerID(0) else {
            throw Refusal(.order, asked: "attach exporter", message: "this guest has no 'vnc' in its specification")
        }
        try desk.listeners.addDescriptors(to: bag)
        let account = Self.exporterAccount(uid: specification.uid, gid: specification.gid)
        return Attach(
            mode: .exporter, domain: context.host.domain, server: server, vcpus: 0, ring: false, name: name, options: desk.giveOptions(),
            uid: account.uid, gid: account.gid, listeners: desk.listeners.listeners)
    }

    /// Whom it becomes: nobody, unless somebody was named or the coordinator is no root that could give rights up.
    private static func exporterAccount(uid: UInt32?, gid: UInt32?) -> (uid: UInt32?, gid: UInt32?) {
        guard uid == nil, geteuid() == 0 else { return (uid, gid) }
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var space = [CChar](repeating: 0, count: 16_384)
        guard getpwnam_r("nobody", &entry, &space, space.count, &found) == 0, found != nil else { return (65_534, gid ?? 65_534) }
        return (entry.pw_uid, gid ?? entry.pw_gid)
    }

    /// It serves: from now on it plays its part.
    func joinScreen() {
        if mode == .exporter { return joinAsExporter() }
        if capabilities.contains("surface") { context.surfaces.displayServes(self) }
        if capabilities.contains("input") { context.input.attach(self) }
    }

    private func joinAsExporter() {
        context.vnc?.exporterServes(self)
        _ = offer(.inputMode(InputMode(absolute: context.input.isAbsolute)))
        do {
            reader = try context.surfaces.add(name: name, isKept: true) { [weak self] in self?.hear($0, $1) }
        } catch {
            context.logBook.note(.error, "'\(name)' shows nothing: \(error)")
        }
    }

    private func hear(_ news: SurfaceNews, _ bag: DescriptorBag) {
        switch news {
        case .added(let number):
            request(.surfaceReader(SurfaceReaderChange(reader: number, change: .added)), descriptors: bag) { [weak self] refusal in
                guard let self, let refusal, !self.isGone else { return }
                self.context.logBook.note(.warning, "'\(self.name)' does not take its page: \(refusal)", becauseOf: self.name)
            }
        case .surface(let size): send(.surface(size), descriptors: bag)
        }
    }

    /// It serves on under another coordinator: it plays its part as before.
    func stayOnScreen(_ kept: KeptEmulator, _ surface: KeptSurface) throws(SystemError) {
        if capabilities.contains("surface") { context.surfaces.displayGoesOn(self, gone: surface.gone) }
        if capabilities.contains("input") { context.input.attach(self, isAbsolute: kept.isAbsolute) }
        guard mode == .exporter else { return }
        context.vnc?.exporterGoesOn(self)
        guard let number = kept.reader, surface.readers.contains(number) else { return joinAsExporter() }
        reader = number
        try context.surfaces.adoptReader(number, name: name, context.recorder) { [weak self] in self?.hear($0, $1) }
    }

    /// Its process has ended.
    func leaveScreen() {
        if mode == .exporter {
            if let reader { context.surfaces.remove(reader) }
            reader = nil
            context.vnc?.exporterEnded(self)
            context.input.releaseHeld()
        } else {
            context.surfaces.displayEnded(self)
            context.input.detach(self)
        }
    }
}
