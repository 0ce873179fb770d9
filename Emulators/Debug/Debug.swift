import EmulatorKit
import Platform
import XenHost

/// The guest's early output as a log: what firmware and boot sectors write, byte by byte, to the ports that Bochs (0xe9) and
/// OVMF and SeaBIOS (0x402) made customary. Each line goes to the coordinator (`demux logs`), and to a file when one is named: when it ends,
/// when it has 256 bytes, when the guest has added nothing for `flush-after` milliseconds (10,000), or when the emulator ends.
///
/// Options: `ports`, a list such as "0xe9,0x402" (the default); `file`, a path to append to; `limit`, the size in bytes that
/// the file may grow to (16 MiB). On Xen, single bytes written to 0xe9 never arrive: the hypervisor prints them itself.
@main
struct Debug: Emulator, ~Copyable {
    static let name = "debug"
    static func main() { run(direct: XenDirect.self) }

    /// What a read of either port gives, so that a guest can tell that somebody listens.
    private static let presence: UInt64 = 0xe9
    private static let mostPorts = 16
    static let stateLength = mostPorts * Line.stateLength

    /// One port: bytes that are not a whole line yet belong to whoever writes there.
    private struct Stream {
        let window: Window
        var line: Line
    }

    private var streams: [Stream] = []
    private var file: LogFile?
    /// How long a line without an end is kept back once the guest adds nothing.
    private var patience = Duration.seconds(10)
    private var flush: Timer?
    /// Whether what is begun is another process's to finish: it was paused for a saved guest's sake, or for its replacement's.
    private var isPaused = false

    init(_ setup: inout Setup) throws(SetupError) {
        let milliseconds = try setup.number("flush-after", default: 10_000, in: 1...86_400_000)
        let ports = try Self.ports(setup.option("ports") ?? "0xe9,0x402")
        var windows: [Window] = []
        for port in ports { windows.append(try setup.claim(ports: port, count: 1, label: "debug port")) }
        let path = setup.option("file")
        let limit = try setup.number("limit", default: 16 << 20, in: 4096...(1 << 40))
        patience = .milliseconds(Int64(clamping: milliseconds))
        let now = EventLoop.now()
        for (place, port) in ports.enumerated() {
            streams.append(Stream(window: windows[place], line: Line(setup.state, place: place, port: port, now: now)))
        }
        if streams.contains(where: { !$0.line.isEmpty }) { flush = setup.context.wake(after: patience) }
        if let path { file = try LogFile(appendingTo: path, limit: limit) }
    }

    private static func ports(_ list: String) throws(SetupError) -> [UInt16] {
        var ports: [UInt16] = []
        for word in list.split(separator: ",") {
            let text = word.drop { $0 == " " }
            let number = text.hasPrefix("0x") ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
            guard let number, !ports.contains(number), ports.count < mostPorts else {
                throw SetupError("read the option", "'ports'", reason: "'\(list.prefix(60))' is not a list of up to \(mostPorts) ports", remedy: "write it as 0xe9,0x402")
            }
            ports.append(number)
        }
        return ports
    }

    mutating func read(_ access: Access) -> UInt64 { Self.presence }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        guard let index = streams.firstIndex(where: { $0.window == access.window }) else { return .done }
        if streams[index].line.append(UInt8(truncatingIfNeeded: value), now: EventLoop.now()) {
            finish(index, context)
        } else if flush == nil {
            flush = context.wake(after: patience)
        }
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        switch event {
        case .timer:
            flush = nil
            finishOld(context)
        case .paused: isPaused = true
        case .resumed: isPaused = false
        case .stopping where !isPaused: for index in streams.indices where !streams[index].line.isEmpty { finish(index, context) }
        default: return
        }
    }

    /// Gives out the lines to which the guest adds nothing any more; the next look is when the first of the others may be one of them.
    private mutating func finishOld(_ context: borrowing Context) {
        let now = EventLoop.now()
        var next: UInt64?
        for index in streams.indices where !streams[index].line.isEmpty {
            let age = now &- streams[index].line.lastByte
            if age >= patience.clampedNanoseconds {
                finish(index, context)
            } else {
                next = min(next ?? .max, patience.clampedNanoseconds - age)
            }
        }
        if let next { flush = context.wake(after: .nanoseconds(Int64(clamping: next))) }
    }

    private mutating func finish(_ index: Int, _ context: borrowing Context) {
        let text = streams[index].line.take()
        context.log(.guest, text)
        if file?.append(text) == false { context.log(.warning, "the log file takes no more: it is full, or cannot be written") }
    }
}
