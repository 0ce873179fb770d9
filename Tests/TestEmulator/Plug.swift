import EmulatorKit
import Glibc

/// Something to unplug: four ports, and a PCI function with a BAR of ports. What it does when it is told is its option `unplug`.
///
/// Port 0 reads 0x50, port 1 how many requests wait for an answer, port 2 how many came in all; a write to port 3 answers those that wait.
struct Plug: Emulator {
    static let name = "plug"
    static let stateLength = 16
    /// "plug CLASS…".
    static var unplugClasses: [UnplugClass] { CommandLine.arguments.dropFirst(2).compactMap(UnplugClass.init(rawValue:)) }

    private let ports: Window
    private let function: PCIFunction
    private let manner: String
    private let name: String
    private let state: StateRegion
    private var waiting: [UnplugRequest] = []
    private var told: UInt64 = 0
    private var isGone = false

    init(_ setup: inout Setup) throws(SetupError) {
        name = setup.name
        manner = setup.option("unplug") ?? "obey"
        state = setup.state
        ports = try setup.claim(ports: try setup.port("ports", default: 0x640), count: 4, label: "plug")
        var description = PCIDescription(vendor: 0x1af4, device: 0x1110, classCode: 0x02_0000, label: "plug")
        description.interruptPin = .a
        description.bars[0] = .ports(16)
        function = try setup.add(description)
    }

    mutating func read(_ access: Access) -> UInt64 {
        guard access.window == ports else { return 0x42 }
        return switch access.offset {
        case 0: 0x50
        case 1: UInt64(waiting.count)
        default: told
        }
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        if access.window == ports, access.offset == 3 {
            for request in waiting { obey(request, context) }
            waiting = []
        }
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        guard case .unplug(_, let request) = event else { return }
        told += 1
        switch manner {
        case "refuse": context.refuse(request, "its cache cannot be written out")
        case "refuse-once":
            if told == 1 { context.refuse(request, "not yet") } else { obey(request, context) }
        case "die":
            // Once: its successor obeys.
            if state.isFresh { kill(getpid(), SIGKILL) }
            obey(request, context)
        case "wait": waiting.append(request)
        case "silent": break
        default: obey(request, context)
        }
    }

    private mutating func obey(_ request: UnplugRequest, _ context: borrowing Context) {
        let removed = isGone ? [] : [name]
        isGone = true
        context.remove(ports)
        context.remove(function)
        context.answer(request, removed: removed)
    }
}
