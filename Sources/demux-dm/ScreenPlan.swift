import EmulatorProtocol
import Platform
import Specification
import Toolstack

/// Joins what libxl asks of a screen with what the guest's specification says of ours.
///
/// libxl decides what the guest sees (the card's place and memory) and where viewers come in; the specification, which programs do it and
/// everything that libxl has no words for. Without `display:` QEMU keeps its VGA.
struct ScreenPlan {
    let plan: DisplayPlan
    /// The specification with the display and the exporter as they are to be started; without them when QEMU keeps the screen.
    let specification: GuestSpecification

    /// - Throws: ArgumentError, also when the display is to have more memory than libxl has set aside.
    init(_ arguments: DeviceModelArguments, _ given: GuestSpecification) throws {
        plan = try DisplayPlan(arguments, isWanted: given.display != nil)
        var result = given
        if case .ours(let ours) = plan, var display = given.display {
            let wanted = display.options["memory"].flatMap { Int($0) }
            display.options["memory"] = "\(try ours.memory(wanted: wanted.map { $0 >> 20 }) << 20)"
            display.pciSlot = display.pciSlot ?? "\(ours.slot)"
            result.display = display
            result.vnc = try Self.exporter(ours.exporter, given.vnc)
        } else {
            result.display = nil
            result.vnc = nil
        }
        specification = result
    }

    /// What a person should know of who has the screen; nil when nothing was asked for.
    func note(asked: GuestSpecification) -> String? {
        guard asked.display != nil else { return nil }
        switch plan {
        case .none: return "the guest has no graphics card (vga=\"none\"): no display is started"
        case .qemu(let reason): return "QEMU keeps the screen: \(reason)"
        case .ours(let ours): return "the display has PCI \(ours.slot) and \(ours.memoryMiB) MiB, as QEMU's VGA would have had"
        }
    }

    /// The exporter that `-vnc` and the specification ask for together; nil when neither does.
    private static func exporter(_ asked: VNCPlan?, _ given: VNCSpecification?) throws -> VNCSpecification? {
        guard let asked else { return given }
        var result = try given ?? VNCSpecification(program: program())
        let places = asked.places.map { place -> VNCAddress in
            switch place {
            case .tcp(let host, let ports): .tcp(host: host, first: ports.lowerBound, last: ports.upperBound)
            case .unix(let path): .unix(path: path)
            }
        }
        // What the specification has by default would be a second port.
        let byDefault = VNCAddress.tcp(host: "127.0.0.1", first: VNCAddress.basePort, last: VNCAddress.basePort + 99)
        result.listen = places + result.listen.filter { $0 != byDefault && !places.contains($0) }
        result.passwordRequired = result.passwordRequired || asked.needsPassword
        result.keymap = result.keymap ?? asked.keymap
        if let sharing = asked.sharing.flatMap({ VNCSharing(rawValue: $0.rawValue) }) { result.share = sharing }
        result.websocket = result.websocket || asked.webSocket
        return result
    }

    /// The exporter's program when only libxl asks for one: beside this one.
    private static func program() throws(SystemError) -> String {
        let path = Files.programFolder() + "/demux-vnc"
        guard Files.isExecutable(path) else {
            throw SystemError(
                "start", "the VNC exporter (\(path))", remedy: "install it, name another program under 'vnc:' in the specification, or set vnc=0")
        }
        return path
    }
}
