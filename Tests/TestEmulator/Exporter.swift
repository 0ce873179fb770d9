import EmulatorProtocol
import Glibc
import Host
import Platform
import Surface

/// An exporter by hand: whoever connects to one of its sockets sends one line, gets one line back, and so can see what the exporter sees
/// and have it say what it should or should not.
enum Exporter {
    nonisolated(unsafe) private static var reader: SurfaceReader?
    nonisolated(unsafe) private static var page: SurfaceReaderPage?
    nonisolated(unsafe) private static var raw: CInt = -1
    nonisolated(unsafe) private static var size = SurfaceSize(width: 0, height: 0)

    /// - Parameter words: "dies" to exit as soon as it serves, "deaf" to hear nothing then.
    static func run(_ words: [String]) -> Never {
        let wire = Wire()
        wire.say(.hello(Hello(name: "exporter", modes: [.exporter])))
        guard case .attach(let attach) = wire.hear().body, attach.mode == .exporter else { exit(95) }
        _ = wire.bag.take()
        var sockets: [CInt] = []
        for _ in attach.listeners ?? [] { if let socket = wire.bag.take() { sockets.append(socket.release()) } }
        if let gid = attach.gid { guard setgroups(0, nil) == 0, setgid(gid) == 0 else { exit(96) } }
        if let uid = attach.uid { guard setuid(uid) == 0 else { exit(97) } }
        wire.say(.ok(Reply()), re: wire.ready())
        if words.contains("dies") { exit(3) }
        if words.contains("deaf") { while true { pause() } }

        var password = attach.options["password"]
        var expiry = "never"
        var absolute = "unknown"
        func answer(_ line: String) -> String {
            let words = line.split(separator: " ").map(String.init)
            switch words.first ?? "" {
            case "pid": return "\(getpid())"
            case "uid": return "\(getuid()) \(getgid())"
            case "options": return attach.options.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
            case "password": return "\(password ?? "none") \(expiry)"
            case "pointer": return absolute
            case "surface": return surface()
            case "write": return Self.write()
            case "viewers":
                page?.set(viewers: words.dropFirst().first.flatMap { UInt32($0) } ?? 0, maxRate: 30)
                return "ok"
            case "key": wire.say(.input(Input([.key(UInt16(words[1]) ?? 0, down: words[2] == "down")])))
            case "hint": wire.say(.modeHint(SurfaceSize(width: Int(words[1]) ?? 0, height: Int(words[2]) ?? 0)))
            case "status":
                wire.say(
                    .vncStatus(
                        VNCStatus(
                            clients: [.init(host: "127.0.0.1", service: "1\u{1b}[2J", family: "ipv4", websocket: false, security: "vnc", shared: true)],
                            statistics: ["updates": 7])))
            case "hostile": return hostile(wire)
            case "die": kill(getpid(), SIGKILL)
            default: return "?"
            }
            return "ok"
        }
        while true {
            var waits = [pollfd(fd: 3, events: Int16(POLLIN), revents: 0)] + sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            poll(&waits, nfds_t(waits.count), -1)
            while let packet = wire.next() {
                switch packet.body {
                case .quit:
                    wire.say(.ok(Reply()), re: packet.id)
                    exit(0)
                case .surface(let new):
                    guard let descriptor = wire.descriptors.take() else { exit(98) }
                    take(descriptor, new)
                case .surfaceReader:
                    guard let memory = wire.descriptors.take(), let frame = wire.descriptors.take(), let want = wire.descriptors.take() else { exit(99) }
                    page = try? SurfaceReaderPage(memory, frame: frame, want: want)
                    wire.say(.ok(Reply()), re: packet.id)
                case .inputMode(let mode): absolute = mode.absolute ? "absolute" : "relative"
                case .vnc(let command):
                    switch command.command {
                    case .setPassword where command.password == "bad":
                        wire.say(.error(Refusal(.invalid, asked: "a password", message: "not that one")), re: packet.id)
                        continue
                    case .setPassword where command.password == "lethal": kill(getpid(), SIGKILL)
                    case .setPassword: password = command.password
                    case .expirePassword: expiry = command.at ?? "?"
                    case .disconnect: break
                    }
                    wire.say(.ok(Reply()), re: packet.id)
                default: if packet.id != nil { wire.say(.ok(Reply()), re: packet.id) }
                }
            }
            for socket in sockets {
                guard let connection = try? UnixSocket.accept(socket) else { continue }
                var bytes = [UInt8](repeating: 0, count: 4096)
                let length = recv(connection.raw, &bytes, bytes.count, 0)
                let reply = Array(answer(String(decoding: bytes.prefix(max(0, length)), as: UTF8.self)).utf8)
                _ = send(connection.raw, reply, reply.count, CInt(MSG_NOSIGNAL))
            }
        }
    }

    private static func take(_ descriptor: consuming OwnedDescriptor, _ new: SurfaceSize) {
        if raw >= 0 { close(raw) }
        raw = dup(descriptor.raw)
        size = new
        reader = try? SurfaceReader(descriptor, width: new.width, height: new.height)
    }

    /// "640x480 ff00ff retired": the size, the first pixel, and whether it is the display's no longer.
    private static func surface() -> String {
        guard let pixels = reader?.pixels else { return "none" }
        let pixel = pixels.load(as: UInt32.self)
        return "\(size.width)x\(size.height) \(String(pixel, radix: 16))" + (reader?.isRetired == true ? " retired" : "")
    }

    /// Tries every way to write to the surface that it knows of.
    private static func write() -> String {
        guard raw >= 0 else { return "none" }
        var results: [String] = []
        let map = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, raw, 0)
        results.append(map == UnsafeMutableRawPointer(bitPattern: -1) ? "map:\(errno)" : "map:done")
        let reading = mmap(nil, 4096, PROT_READ, MAP_SHARED, raw, 0)
        results.append(mprotect(reading, 4096, PROT_READ | PROT_WRITE) == 0 ? "protect:done" : "protect:\(errno)")
        var byte: UInt8 = 1
        results.append(pwrite(raw, &byte, 1, 40_000) == 1 ? "pwrite:done" : "pwrite:\(errno)")
        results.append(ftruncate(raw, 0) == 0 ? "truncate:done" : "truncate:\(errno)")
        let again = open("/proc/self/fd/\(raw)", O_RDWR)
        results.append(again >= 0 ? "reopen:done" : "reopen:\(errno)")
        return results.joined(separator: " ")
    }

    /// Says what no exporter may, and gives how often it was refused.
    private static func hostile(_ wire: Wire) -> String {
        guard let range = PortRange(first: 0x900, last: 0x900) else { return "?" }
        let messages: [Message] = [
            .claim(Claim(.ports(range), label: "x")), .memory, .pci(PCIRequest(label: "x")), .populate(Populate(gfn: GFN(1 << 30), count: 1)),
            .region(RegionRequest(length: 4096, label: "x")), .surface(SurfaceSize(width: 640, height: 480)), .msi(MSI(address: 0xfee0_0000, data: 33)),
            .intx(INTx(isa: 3, asserted: true)), .modeHint(SurfaceSize(width: 0, height: -5)), .modeHint(SurfaceSize(width: 9000, height: 9000)),
            .input(Input((0..<65).map { .key($0, down: true) })), .hello(Hello(name: "x", modes: [.exporter])), .ready, .start, .quit,
            .vnc(VNCCommand(.disconnect)), .dma(DMA(.read, address: GuestAddress(0), length: 1, offset: 0)),
        ]
        var refused = 0
        for message in messages {
            let id = wire.say(message)
            while true {
                let packet = wire.hear()
                guard packet.re == id else { continue }
                if case .error = packet.body { refused += 1 }
                break
            }
        }
        return "\(refused) of \(messages.count)"
    }
}
