import EmulatorKit
import Host
import Platform

/// A device in the manner of a display: a PCI function whose BAR is a region, a second region for the legacy window, and state.
struct Screen: Emulator, ~Copyable {
    static let name = "screen"
    static let stateLength = 64
    static let capabilities = ["surface", "input"]

    let function: PCIFunction
    let memory: DeviceRegion
    let window: DeviceRegion
    let ports: Window
    let state: StateRegion
    var moves: [Probe.Moved] = []
    var events: [Event] = []
    /// Ports 0x3c0…: a write of a value shows the window at 0xb8000 (1), nowhere (0), over RAM (2); others are counted.
    var written = 0
    var onEvent: (Event, borrowing Context) -> Void = { _, _ in }

    init(_ setup: inout Setup) throws(SetupError) {
        let memory = try setup.region(length: 1 << 20, label: "video memory")
        let window = try setup.region(length: 0x8000, label: "text window")
        let ports = try setup.claim(ports: 0x3c0, count: 16, label: "registers")
        var description = PCIDescription(vendor: 0x1234, device: 0x1111, classCode: 0x03_0000, revision: 2, label: "screen")
        description.bars = [0: .region(memory), 2: .memory(4096)]
        description.interruptPin = .a
        description.messageInterrupts = .init(wide: false, maskable: true, vectors: 4)
        let function = try setup.add(description, slot: "00:05.0")
        (self.memory, self.window, self.ports, self.function, state) = (memory, window, ports, function, setup.state)
    }

    mutating func read(_ access: Access) -> UInt64 { 0x77 }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        guard access.window == ports, access.offset == 0, value <= 2 else {
            written += 1
            return .done
        }
        context.place(window, at: [nil, 0xb8000, 0x10000][Int(value)], answering: context.token)
        return .later
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        events.append(event)
        onEvent(event, context)
    }

    mutating func moved(_ window: Window, to address: UInt64?, _ context: borrowing Context) {
        moves.append(Probe.Moved(window: window, address: address))
    }

    mutating func takeEvents() -> [Event] {
        defer { events = [] }
        return events
    }

    mutating func takeMoves() -> [Probe.Moved] {
        defer { moves = [] }
        return moves
    }
}
