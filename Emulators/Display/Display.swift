import EmulatorKit
import Platform
import Surface
import VGA
import XenHost

/// The standard VGA (PCI 1234:1111) in a process of its own: the guest's display, whose picture readers of the surface show.
///
/// Options: `memory` is the video memory in bytes (16 MiB), `mode` the mode that the EDID prefers ("1024x768"), `pci` a place such as "00:03.0", `rom`
/// the VGA BIOS's file ("no": none), `plain-window` whether text is backed with memory ("yes"), `like-qemu` whether the picture leaves out
/// what QEMU's VGA leaves out ("no").
@main
struct Display: Emulator, ~Copyable {
    static let name = "display"
    static let stateLength = VGADevice.stateLength + LegacyWindow.Record.length
    static let capabilities = ["surface"]
    static func main() { run(direct: XenDirect.self) }

    private var device: VGADevice
    var screen: Screen
    private var legacy: LegacyWindow
    private let video: DeviceRegion
    private let rom: [UInt8]
    private let function: PCIFunction
    private let ports: Window
    private let dispi: Window
    private let window: Window
    private var isAdopted: Bool

    private enum Layout {
        static let ports: UInt16 = 0x3b0
        static let portCount = 0x30
        static let dispi: UInt16 = 0x1ce
        static let dispiCount = 3
        static let registers = 4096
    }

    init(_ setup: inout Setup) throws(SetupError) {
        let memory = try setup.number("memory", default: 16 << 20, in: 1 << 20...64 << 20)
        let mode = try Self.mode(setup.option("mode"))
        let slot = setup.option("pci")
        let image = try VideoROM.load(setup.option("rom"))
        let backs = try setup.flag("plain-window", default: true)
        let likeQEMU = try setup.flag("like-qemu", default: false)
        guard memory.nonzeroBitCount == 1 else {
            throw SetupError("use", "memory=\(memory)", reason: "the size of a BAR is a power of two", remedy: "use 1, 2, 4, 8, 16, 32 or 64 MiB")
        }
        let ports = try setup.claim(ports: Layout.ports, count: Layout.portCount, label: "VGA registers")
        let dispi = try setup.claim(ports: Layout.dispi, count: Layout.dispiCount, label: "DISPI registers")
        let window = try setup.claim(memory: LegacyWindow.base, length: UInt64(VGADevice.windowLength), label: "legacy window")
        let video = try setup.region(length: Int(memory), label: "video memory")
        var options = VGAOptions()
        if let mode { options.preferred = mode }
        options.beyondQEMU = !likeQEMU
        let bytes = UnsafeMutableRawBufferPointer(start: video.bytes, count: video.length)
        guard let device = VGADevice(memory: bytes, state: setup.state.bytes, options: options) else {
            throw SetupError("make", "the VGA", reason: "its memory is too small or not aligned", remedy: "this is a fault of the program's")
        }
        var description = PCIDescription(
            vendor: 0x1234, device: 0x1111, classCode: 0x03_0000, revision: 2, subsystemVendor: 0x1af4, subsystem: 0x1100, label: "display")
        description.bars = [0: .region(video), 2: .memory(Layout.registers)]
        if let image { description.romSize = Self.power(image.count) }
        let function = try setup.add(description, slot: slot)

        // The guest can do without these, slowly.
        var text: DeviceRegion?
        var graphics: DeviceRegion?
        if backs {
            do throws(SetupError) {
                text = try setup.region(length: LegacyWindow.textLength, label: "text window")
                graphics = try setup.region(length: LegacyWindow.graphicsLength, label: "graphics window")
            } catch {
                setup.context.log(.warning, "text is not backed with memory: \(error)")
            }
        }
        self.device = device
        screen = Screen(video: video)
        legacy = LegacyWindow(text: text, graphics: graphics, record: setup.state.bytes + VGADevice.stateLength)
        self.video = video
        rom = image ?? []
        self.function = function
        self.ports = ports
        self.dispi = dispi
        self.window = window
        isAdopted = video.isAdopted
        if isAdopted { legacy.adopt(&self.device, setup.context) }
    }

    private static func mode(_ text: String?) throws(SetupError) -> VGAMode? {
        guard let text else { return nil }
        let sides = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
        guard sides.count == 2, let width = sides[0], let height = sides[1], (64...8192).contains(width), (64...8192).contains(height) else {
            throw SetupError("use", "mode=\(text)", reason: "it is not a size such as 1024x768", remedy: "each side has 64 to 8192 pixels")
        }
        return VGAMode(width: width, height: height)
    }

    /// The BAR's size for a ROM of so many bytes.
    private static func power(_ count: Int) -> Int {
        var size = 2048
        while size < count { size <<= 1 }
        return size
    }

    // MARK: accesses

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        let answer: UInt64
        let isPort = access.window == ports || access.window == dispi
        switch access.window {
        case ports: answer = device.readPort(Layout.ports &+ UInt16(truncatingIfNeeded: access.offset), size: access.size)
        case dispi: answer = device.readPort(Layout.dispi &+ UInt16(truncatingIfNeeded: access.offset), size: access.size)
        case window: answer = legacy.read(access, &device)
        case function.rom: return .value(VideoROM.read(rom, access.offset, size: access.size))
        case function.bar(2): answer = device.readRegisters(access.offset, size: access.size)
        default: return .value(access.allOnes)
        }
        return legacy.mayChange ? legacy.settle(&device, access, isPort: isPort, value: answer, now: EventLoop.now(), context) : .value(answer)
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        switch access.window {
        case ports: device.writePort(Layout.ports &+ UInt16(truncatingIfNeeded: access.offset), size: access.size, value: value)
        case dispi:
            // Switching DISPI on clears video memory, with the text that the guest wrote before.
            _ = legacy.look(&device)
            device.writePort(Layout.dispi &+ UInt16(truncatingIfNeeded: access.offset), size: access.size, value: value)
        case window: legacy.write(access, value, &device)
        case function.bar(2):
            _ = legacy.look(&device)
            device.writeRegisters(access.offset, size: access.size, value: value)
        default: return .done
        }
        if screen.isWatched && (device.changedRegisters || device.wroteMemory) { screen.stir(context) }
        guard legacy.mayChange else { return .done }
        let isPort = access.window == ports || access.window == dispi
        return legacy.settle(&device, access, isPort: isPort, value: 0, now: EventLoop.now(), context)
    }

    // MARK: events

    mutating func event(_ event: Event, _ context: borrowing Context) {
        switch event {
        case .timer(let timer): _ = screen.expired(timer, &device, &legacy, context)
        case .readable(let descriptor): if !screen.wanted(descriptor, context) { context.forget(descriptor) }
        case .regionPlaced(let region): legacy.placed(region, &device, context)
        case .regionDirty(let region): if region == video { screen.dirty(&device, context) }
        case .regionTouched: screen.stir(context)
        case .surface(let width, let height, let descriptors): screen.surface(width, height, descriptors, &device, context)
        case .surfaceRefused(let width, let height, let reason): screen.refuse(width, height, reason, context)
        case .readerAdded(let number, let descriptors): screen.add(number, descriptors, context)
        case .readerGone(let number): screen.remove(number, context)
        case .modeHint(let width, let height):
            if !device.modeHint(width: width, height: height) {
                context.log(.info, "a mode of \(width)×\(height) was asked for and is not possible with \(video.length >> 20) MiB of video memory")
            }
        case .unplug, .input, .paused, .resumed, .stopping: break
        }
    }
}
