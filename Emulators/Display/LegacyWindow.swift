import EmulatorKit
import Glibc
import VGA

/// Text at memory speed: while what the CPU sees in 0xa0000–0xbffff is plain memory (text, mode 0x13), guest memory stands there instead of
/// a trap for each byte; a BIOS scroll of one line is some 7,680 of them otherwise. What the guest writes is found by comparing.
///
/// The window becomes plain lazily, after some trapped traffic, because a mode set switches it to and fro; and traps again before the
/// register write that makes it anything else is answered. The vCPU that causes a change waits for it. Another vCPU's posted writes
/// may still be on their way then: they are carried out on the plain memory, when it stands.
///
/// Memory must not come under an access to the window that waits for its answer: Xen carries the instruction out again when it has the answer,
/// finds memory, and ends the guest because the answer fits nothing (hvmemul_do_io, "correctly re-issued"). So the window is entered in a
/// port access, and only while no other vCPU waits for us.
struct LegacyWindow: ~Copyable {
    private enum State: Equatable {
        case trapping
        case entering(VGAPlainWindow)
        case plain(VGAPlainWindow)
        case leaving(VGAPlainWindow)
    }

    /// Where the legacy window begins in the guest.
    static let base: UInt64 = 0xa0000
    /// Trapped accesses after which memory is put into the window.
    private static let leastTraffic = 64
    private static let mostTraffic = 1 << 16
    /// A window that was left sooner after it was entered was not worth it, nanoseconds.
    private static let worthwhile: UInt64 = 100_000_000

    /// Memory for windows of 32 and of 64 KiB; nil when the host has none.
    private let text: DeviceRegion?
    private let graphics: DeviceRegion?
    private var previous: UnsafeMutableRawPointer
    private var state = State.trapping
    /// Accesses that were carried out, and whose answers wait while the window changes.
    private var waiting: [Token] = []
    private var traffic = 0
    private var threshold = Self.leastTraffic
    private var enteredAt: UInt64 = 0
    private var refused = false
    private let record: Record
    /// How often it was entered, for who wants to know.
    private(set) var entries = 0

    static let textLength = 0x8000
    static let graphicsLength = 0x10000

    /// What a successor has to know, in the state region: the plain window whose content has not been taken over to the end.
    struct Record {
        static let length = 16
        private static let valid: UInt32 = 0x314e_4950  // "PIN1"
        private let bytes: UnsafeMutableRawPointer

        init(_ bytes: UnsafeMutableRawPointer) { self.bytes = bytes }

        /// Whoever wrote it, what comes out is a window that there is.
        var window: VGAPlainWindow? {
            get {
                guard bytes.load(as: UInt32.self) == Self.valid else { return nil }
                let (offset, length) = (Int(bytes.load(fromByteOffset: 4, as: UInt32.self)), Int(bytes.load(fromByteOffset: 8, as: UInt32.self)))
                let layout = bytes.load(fromByteOffset: 12, as: UInt32.self)
                guard length == LegacyWindow.textLength || length == LegacyWindow.graphicsLength, offset & 4095 == 0,
                    offset <= VGADevice.windowLength - length
                else { return nil }
                return VGAPlainWindow(offset: offset, length: length, layout: layout == 0xff ? .chained : .oddEven(plane: Int(layout & 2)))
            }
            nonmutating set {
                bytes.storeBytes(of: 0, as: UInt32.self)
                guard let newValue else { return }
                bytes.storeBytes(of: UInt32(truncatingIfNeeded: newValue.offset), toByteOffset: 4, as: UInt32.self)
                bytes.storeBytes(of: UInt32(truncatingIfNeeded: newValue.length), toByteOffset: 8, as: UInt32.self)
                let layout: UInt32 = if case .oddEven(let plane) = newValue.layout { UInt32(plane & 2) } else { 0xff }
                bytes.storeBytes(of: layout, toByteOffset: 12, as: UInt32.self)
                bytes.storeBytes(of: Self.valid, as: UInt32.self)
            }
        }
    }

    /// - Parameter record: `Record.length` bytes of the state region.
    init(text: DeviceRegion?, graphics: DeviceRegion?, record: UnsafeMutableRawPointer) {
        self.text = text
        self.graphics = graphics
        self.record = Record(record)
        previous = .allocate(byteCount: Self.graphicsLength, alignment: 4096)
        previous.initializeMemory(as: UInt8.self, repeating: 0, count: Self.graphicsLength)
    }

    deinit { previous.deallocate() }

    private func region(_ window: VGAPlainWindow) -> DeviceRegion? {
        window.length == Self.textLength ? text : window.length == Self.graphicsLength ? graphics : nil
    }

    private static func address(_ window: VGAPlainWindow) -> UInt64 { base &+ UInt64(truncatingIfNeeded: window.offset) }

    /// A successor finds the window as its predecessor left it, perhaps in the middle of a change.
    mutating func adopt(_ device: inout VGADevice, _ context: borrowing Context) {
        let held = record.window
        for region in [text, graphics] {
            guard let region else { continue }
            let held = held.flatMap { self.region($0) == region ? $0 : nil }
            if let address = region.address {
                if let window = device.plainWindow, self.region(window) == region, Self.address(window) == address {
                    state = .plain(window)
                    recall(window, region, device)
                    record.window = window
                } else {
                    // The register was written, and the memory is still there: so is the guest's last text.
                    if let held, Self.address(held) == address {
                        state = .leaving(held)
                        recall(held, region, device)
                    }
                    context.place(region, at: nil)
                }
            } else if let held {
                recall(held, region, device)
                take(held, region, &device)
                record.window = nil
            }
        }
    }

    /// What the predecessor last took over is what stands in video memory, unless that was cleared since.
    private func recall(_ window: VGAPlainWindow, _ region: DeviceRegion, _ device: borrowing VGADevice) {
        let bytes = UnsafeMutableRawBufferPointer(start: previous, count: region.length)
        if device.isDISPIOn { memcpy(previous, region.bytes, region.length) } else { device.exportPlainWindow(window, to: bytes) }
    }

    /// Whether the guest writes to the window without our seeing it: the screen has to look.
    var isPlain: Bool { if case .plain = state { true } else { false } }

    /// A byte of a trapped access to the window is about to be carried out. Xen hands over the whole of an access that is only partly in plain
    /// memory, and posted writes may be older than the memory.
    /// - Returns: where in the plain memory it is to be carried out; nil where the device is to do it.
    private func plain(_ offset: Int) -> UnsafeMutableRawPointer? {
        guard case .plain(let window) = state, let region = region(window) else { return nil }
        let place = offset &- window.offset
        return place >= 0 && place < region.length ? region.bytes + place : nil
    }

    /// A trapped read of the window.
    mutating func read(_ access: Access, _ device: inout VGADevice) -> UInt64 {
        traffic &+= 1
        guard isPlain else { return device.readWindow(access.offset, size: access.size) }
        var value: UInt64 = 0
        for index in 0..<min(access.size, 8) {
            let offset = access.offset &+ index
            let byte = plain(offset).map { UInt64($0.load(as: UInt8.self)) } ?? device.readWindow(offset, size: 1)
            value |= byte << UInt64(index &* 8)
        }
        return value
    }

    /// A trapped write to the window.
    mutating func write(_ access: Access, _ value: UInt64, _ device: inout VGADevice) {
        traffic &+= 1
        guard isPlain else {
            device.writeWindow(access.offset, size: access.size, value: value)
            // Memory that is on its way into the window has been filled already.
            if case .entering(let window) = state, let region = region(window), device.plainWindow == window {
                device.exportPlainWindow(window, to: UnsafeMutableRawBufferPointer(start: region.bytes, count: region.length))
                memcpy(previous, region.bytes, region.length)
            }
            return
        }
        for index in 0..<min(access.size, 8) {
            let byte = UInt8(truncatingIfNeeded: value >> UInt64(index &* 8))
            if let place = plain(access.offset &+ index) {
                place.storeBytes(of: byte, as: UInt8.self)
            } else {
                device.writeWindow(access.offset &+ index, size: 1, value: UInt64(byte))
            }
        }
    }

    /// Whether anything may have to be done after a register access; cheap, for each of them.
    @inline(__always) var mayChange: Bool { state != .trapping || traffic >= threshold }

    /// After an access that was answered with `value`: puts the window where the registers want it.
    /// - Parameter isPort: whether it was an access to a port, and not to memory.
    /// - Returns: `.held` when the guest waits for that. The registers have the access's effect by then, and some accesses have one that would not be
    ///   the same twice: a successor, which finds the window as `adopt` has put it, only answers.
    mutating func settle(
        _ device: inout VGADevice, _ access: Access, isPort: Bool, value: UInt64, now: UInt64, _ context: borrowing Context
    ) -> Answer {
        let wanted = device.plainWindow
        switch state {
        case .trapping:
            guard let wanted, traffic >= threshold, isPort, !access.isPosted, !refused, let region = region(wanted), context.isAlone else { break }
            traffic = 0
            device.exportPlainWindow(wanted, to: UnsafeMutableRawBufferPointer(start: region.bytes, count: region.length))
            memcpy(previous, region.bytes, region.length)
            state = .entering(wanted)
            enteredAt = now
            waiting.append(context.token)
            context.place(region, at: Self.address(wanted))
            return .held(value)
        case .plain(let window):
            guard wanted != window, !access.isPosted, let region = region(window) else { break }
            state = .leaving(window)
            // What was not worth its cost is tried more seldom.
            threshold = now &- enteredAt < Self.worthwhile ? min(threshold &* 2, Self.mostTraffic) : Self.leastTraffic
            traffic = 0
            waiting.append(context.token)
            context.place(region, at: nil)
            return .held(value)
        case .entering, .leaving:
            // Another vCPU's access while the window is on its way, or our predecessor's again: it waits, too. One to memory must not: see above.
            guard isPort, !access.isPosted else { break }
            waiting.append(context.token)
            return .held(value)
        }
        return .value(value)
    }

    /// Memory is where it was to be put, or it could not be.
    mutating func placed(_ region: DeviceRegion, _ device: inout VGADevice, _ context: borrowing Context) {
        switch state {
        case .entering(let window) where self.region(window) == region:
            if region.address == Self.address(window) {
                state = .plain(window)
                entries &+= 1
                record.window = window
                // A register may have changed while it was on its way.
                if device.plainWindow != window {
                    state = .leaving(window)
                    return context.place(region, at: nil)
                }
            } else {
                refused = true
                state = .trapping
                context.log(.warning, "the legacy window stays trapped: memory could not be put at \(Self.address(window)); text is slow")
            }
        case .leaving(let window) where self.region(window) == region:
            if region.address == nil {
                take(window, region, &device)
                record.window = nil
                state = .trapping
            } else {
                context.log(.error, "the legacy window stays plain memory: it could not be taken away; what is drawn in this mode may be wrong")
                state = .plain(window)
            }
        default: return
        }
        for token in waiting { context.complete(token) }
        waiting.removeAll(keepingCapacity: true)
    }

    /// Takes over what the guest has written while the window is plain.
    /// - Returns: whether anything had changed.
    mutating func look(_ device: inout VGADevice) -> Bool {
        guard case .plain(let window) = state, let region = region(window) else { return false }
        return take(window, region, &device)
    }

    @discardableResult
    private mutating func take(_ window: VGAPlainWindow, _ region: DeviceRegion, _ device: inout VGADevice) -> Bool {
        device.importPlainWindow(
            window, from: UnsafeRawBufferPointer(start: region.bytes, count: region.length),
            previous: UnsafeMutableRawBufferPointer(start: previous, count: region.length)) != nil
    }
}
