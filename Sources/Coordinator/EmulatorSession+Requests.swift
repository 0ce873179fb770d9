import EmulatorProtocol
import Host
import Logging
import Platform

/// What an emulator asks for, and what it gets: the requests of Protocols/emulator-protocol.md that an emulator sends.
extension EmulatorSession {
    func serve(_ packet: Packet) throws(Refusal) {
        if case .hello(let hello) = packet.body { return try greet(hello, re: packet.id) }
        guard state != .spawned else {
            throw Refusal(.order, asked: packet.body.type, message: "the first message must be hello")
        }
        if mode == .exporter { return try serveExporter(packet) }
        switch packet.body {
        case .claim(let claim):
            let number = try self.claim(claim)
            send(.ok(Reply(claim: number)), re: packet.id)
        case .unclaim(let unclaim):
            try release(unclaim.claim)
            send(.ok(Reply()), re: packet.id)
        case .pci(let request):
            let (address, number) = try assign(request)
            send(.ok(Reply(claim: number, address: address)), re: packet.id)
        case .memory:
            try grantMemory(re: packet.id)
        case .dma(let dma):
            try copy(dma)
            send(.ok(Reply()), re: packet.id)
        case .ready:
            try getReady(re: packet.id)
        case .intx(let line):
            try interrupt(line)
            if packet.id != nil { send(.ok(Reply()), re: packet.id) }
        case .msi(let msi):
            guard let data = UInt32(exactly: msi.data.value) else {
                throw Refusal(.invalid, asked: "msi data \(Hex.string(msi.data.value))", message: "an MSI carries 32 bits")
            }
            try asHost("an MSI to \(Hex.string(msi.address.value))") { () throws(HostError) in
                try context.host.injectMSI(address: msi.address.value, data: data)
            }
            if packet.id != nil { send(.ok(Reply()), re: packet.id) }
        case .modified:
            // Only an isolated emulator with a map of its own would say so; writes through `dma` are counted already.
            if packet.id != nil { send(.ok(Reply()), re: packet.id) }
        case .populate(let request):
            guard !context.dying else { throw Refusal(.order, asked: "populate", message: "the guest is going away") }
            let first = try populated.add(request, host: context.host)
            send(.ok(Reply(gfn: first)), re: packet.id)
        case .depopulate(let request):
            try populated.remove(request, host: context.host)
            send(.ok(Reply()), re: packet.id)
        case .region(let request):
            try grantRegion(request, re: packet.id)
        case .regionPlace(let request):
            try place(request)
            send(.ok(Reply()), re: packet.id)
        case .regionDirty(let request):
            try collectDirty(request)
            send(.ok(Reply()), re: packet.id)
        case .surface(let size):
            let bag = try context.surfaces.make(size, for: self)
            send(.ok(Reply()), re: packet.id, descriptors: bag)
        case .inputMode(let mode):
            guard capabilities.contains("input") else {
                throw Refusal(.order, asked: "input-mode", message: "only an emulator that said the capability 'input' in hello has a pointer")
            }
            context.input.note(mode, from: self)
            context.recorder.changed()
            if packet.id != nil { send(.ok(Reply()), re: packet.id) }
        case .log(let log):
            record(log)
        default:
            throw Refusal(.unsupported, asked: packet.body.type, message: "it is the coordinator that says this")
        }
    }

    func getReady(re: UInt32?) throws(Refusal) {
        if isRepeating { return send(.ok(Reply()), re: re) }
        guard state == .greeted else { throw Refusal(.order, asked: "ready", message: "it was said before") }
        state = .ready
        if objection == nil { dropInherited() }
        send(.ok(Reply()), re: re)
        begin()
    }

    func record(_ log: Log) {
        // An event's name is one of ours, whatever the emulator says.
        context.logBook.record(source: name, level: log.level.loggerLevel, text: log.message, event: log.event == LogBook.Event.slow.rawValue ? .slow : nil)
        // What it says itself before it gives up is the best reason there is.
        if started != nil, log.level == .error { lastWords = PrintableText.escaped(log.message) }
    }

    func asHost(_ asked: String, _ body: () throws(HostError) -> Void) throws(Refusal) {
        do {
            try body()
        } catch {
            let code: Refusal.Code =
                switch error.reason {
                case .noFreeServer, .tooManyRanges: .exhausted
                case .noSuchDomain: .order
                case .invalid, .noSuchRange: .invalid
                default: .host
                }
            throw Refusal(code, asked: asked, message: "\(error)")
        }
    }

    // MARK: interrupts

    func interrupt(_ line: INTx) throws(Refusal) {
        if let isa = line.isa {
            guard isa < 16 else { throw Refusal(.invalid, asked: "ISA interrupt \(isa)", message: "there are 0 to 15") }
            try asHost("ISA interrupt \(isa)") { () throws(HostError) in
                try context.host.setISAInterrupt(isa, asserted: line.asserted)
            }
            return note(Line(isa: isa), asserted: line.asserted)
        }
        let pins = ["A": UInt8(0), "B": 1, "C": 2, "D": 3]
        guard let text = line.function, let function = PCIAddress(parsing: text), let pin = line.pin.flatMap({ pins[$0] }) else {
            throw Refusal(.invalid, asked: "intx", message: "it needs 'isa', or 'function' and 'pin' (\"A\" to \"D\")")
        }
        guard context.registry.claims(of: owner).contains(where: { $0.range == .pci(function) }) else {
            throw Refusal(.invalid, asked: "intx of \(function)", message: "this emulator does not own that function")
        }
        try asHost("intx of \(function)") { () throws(HostError) in
            try context.host.setINTx(device: function.device, pin: pin, asserted: line.asserted)
        }
        note(Line(device: function.device, pin: pin), asserted: line.asserted)
    }

    func lower(_ some: Set<Line>) {
        lines.subtract(some)
        guard !context.dying else { return }
        for line in some {
            if let isa = line.isa {
                try? context.host.setISAInterrupt(isa, asserted: false)
            } else {
                try? context.host.setINTx(device: line.device, pin: line.pin, asserted: false)
            }
        }
    }

    func note(_ line: Line, asserted: Bool) { if asserted { lines.insert(line) } else { lines.remove(line) } }
}
