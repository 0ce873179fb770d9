import EmulatorKit
import XenHost

/// The guest's early output as a log: what firmware and boot sectors write, byte by byte, to the ports that Bochs (0xe9) and
/// OVMF and SeaBIOS (0x402) made customary. Each line goes to the coordinator (`demux logs`), and to a file when one is named.
///
/// Options: `ports`, a list such as "0xe9,0x402" (the default); `file`, a path to append to; `limit`, the size in bytes that
/// the file may grow to (16 MiB). On Xen, single bytes written to 0xe9 never arrive: the hypervisor prints them itself.
@main
struct Debug: Emulator, ~Copyable {
    static let name = "debug"
    static func main() { run(direct: XenDirect.self) }

    /// What a read of either port gives, so that a guest can tell that somebody listens.
    private static let presence: UInt64 = 0xe9
    /// How long a line without an end is kept back.
    private static let patience = Duration.seconds(1)

    /// One port: bytes that are not a whole line yet belong to whoever writes there.
    private struct Stream {
        let window: Window
        var line = Line()
    }

    private var streams: [Stream] = []
    private var file: LogFile?
    private var flush: Timer?

    init(_ setup: inout Setup) throws(SetupError) {
        for port in try Self.ports(setup.option("ports") ?? "0xe9,0x402") {
            streams.append(Stream(window: try setup.claim(ports: port, count: 1, label: "debug port")))
        }
        let path = setup.option("file")
        let limit = try setup.number("limit", default: 16 << 20, in: 4096...(1 << 40))
        if let path { file = try LogFile(appendingTo: path, limit: limit) }
    }

    private static func ports(_ list: String) throws(SetupError) -> [UInt16] {
        var ports: [UInt16] = []
        for word in list.split(separator: ",") {
            let text = word.drop { $0 == " " }
            let number = text.hasPrefix("0x") ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
            guard let number, !ports.contains(number), ports.count < 16 else {
                throw SetupError("read the option", "'ports'", reason: "'\(list.prefix(60))' is not a list of up to 16 ports", remedy: "write it as 0xe9,0x402")
            }
            ports.append(number)
        }
        return ports
    }

    mutating func read(_ access: Access) -> UInt64 { Self.presence }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        guard let index = streams.firstIndex(where: { $0.window == access.window }) else { return .done }
        if streams[index].line.append(UInt8(truncatingIfNeeded: value)) {
            finish(index, context)
        } else if flush == nil {
            flush = context.wake(after: Self.patience)
        }
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        switch event {
        case .timer: flush = nil
        case .stopping, .paused: break
        default: return
        }
        for index in streams.indices where !streams[index].line.isEmpty { finish(index, context) }
    }

    private mutating func finish(_ index: Int, _ context: borrowing Context) {
        let text = streams[index].line.take()
        context.log(.guest, text)
        if file?.append(text) == false { context.log(.warning, "the log file takes no more: it is full, or cannot be written") }
    }
}
