import EmulatorKit
import Platform
import Surface
import VGA

/// The scan-out as readers see it: who reads, the surface, and when it is brought up to date.
///
/// Without a viewer nothing runs. With one, changes that are known of (registers, trapped writes, a host with a doorbell) are shown at
/// once, others are looked for at the pace that `Cadence` allows; and when nothing happens, nothing blinks any more.
struct Screen: ~Copyable {
    private final class Reader {
        let watch: SurfaceReaderWatch
        init(_ watch: consuming SurfaceReaderWatch) { self.watch = watch }
    }
    /// A reference, so that what `render` reports can be written down while it runs.
    private final class Canvas {
        var writer: SurfaceWriter
        init(_ writer: consuming SurfaceWriter) { self.writer = writer }
    }

    private let video: DeviceRegion
    private var readers: [Int: Reader] = [:]
    private var canvas: Canvas?
    /// The size that the coordinator has been asked a surface of.
    private var asked: (width: Int, height: Int)?
    private var refused: (width: Int, height: Int)?
    private var cadence = Cadence()
    var blinking = Blinking()
    private var strategy = Strategy()
    private var shadow = Shadow()
    private var viewers = 0
    private var timer: EmulatorKit.Timer?
    private var due: UInt64?
    private var tracking = false
    private var waitsForDirty = false
    /// A look was due while the host's answer to the one before was awaited: what rang for it may have been written after that answer.
    private var missed = false
    private var lookedAt: UInt64 = 0
    /// Whether the guest writes text without our seeing it, as of the last look.
    private var windowIsPlain = false
    /// Whether the last look found that the guest had written registers, text, or memory that traps.
    private var guestWrote = false
    private var blank = false
    /// A reader has come that waits for an update, even if nothing changes.
    private var announces = false

    init(video: DeviceRegion) { self.video = video }

    /// Whether anybody looks.
    var isWatched: Bool { viewers > 0 }

    // MARK: readers

    mutating func add(_ number: Int, _ descriptors: EventDescriptors, _ context: borrowing Context) {
        guard let page = descriptors.take(), let frame = descriptors.take(), let want = descriptors.take() else {
            return context.log(.error, "reader \(number) came without its three descriptors; it is left out")
        }
        do throws(SystemError) {
            let reader = Reader(try SurfaceReaderWatch(page, frame: frame, want: want))
            guard context.watch(reader.watch.wantDescriptor) else {
                return context.log(.error, "reader \(number) is left out: there are too many")
            }
            remove(number, context)
            readers[number] = reader
            count(context)
        } catch {
            context.log(.error, "reader \(number) is left out: \(error)")
        }
    }

    mutating func remove(_ number: Int, _ context: borrowing Context) {
        guard let reader = readers.removeValue(forKey: number) else { return }
        context.forget(reader.watch.wantDescriptor)
        count(context)
    }

    /// A reader has changed its page, or only wants a fresh look: somebody types. False when the descriptor is none of a reader's.
    mutating func wanted(_ descriptor: CInt, _ context: borrowing Context) -> Bool {
        guard let (_, reader) = readers.first(where: { $0.value.watch.wantDescriptor == descriptor }) else { return false }
        // A doorbell whose other end is closed is readable for ever; the coordinator tells when the reader is gone.
        if !reader.watch.clearWant() { context.forget(descriptor) }
        let before = viewers
        count(context)
        if viewers == before { blinking.stir(at: EventLoop.now()) }
        return true
    }

    private mutating func count(_ context: borrowing Context) {
        let before = viewers
        // Each is a number that a reader may choose freely.
        viewers = readers.values.reduce(0) { $0 + min(Int($1.watch.viewers), 1 << 16) }
        cadence.rate = readers.values.filter { $0.watch.viewers > 0 }.map { $0.watch.maxRate }.max() ?? 60
        if viewers == 0 {
            rest(context)
        } else {
            cadence.stir()
            let now = EventLoop.now()
            if before == 0 { shadow.forget() }
            if viewers > before { blinking.stir(at: now) }
            guard viewers > before else { return look(at: cadence.nextUpdate(from: now), context) }
            // Who comes is shown the picture at once; yet no reader can have us look without pause by coming and going.
            announces = true
            look(at: max(now, lookedAt &+ 1_000_000_000 / UInt64(Cadence.mostRate)), context)
        }
    }

    /// Nobody looks any more: nothing is tracked, and nothing wakes us.
    private mutating func rest(_ context: borrowing Context) {
        if let timer { context.cancel(timer) }
        timer = nil
        due = nil
        stopTracking(context)
    }

    private mutating func stopTracking(_ context: borrowing Context) {
        if tracking { context.stopTracking(video) }
        tracking = false
        strategy.forget()
    }

    // MARK: the surface

    mutating func surface(_ width: Int, _ height: Int, _ descriptors: EventDescriptors, _ device: inout VGADevice, _ context: borrowing Context) {
        guard let descriptor = descriptors.take() else { return refuse(width, height, "it came without its descriptor", context) }
        do throws(SystemError) {
            let writer = try SurfaceWriter(descriptor, width: width, height: height)
            canvas?.writer.retire()
            ring()
            canvas = Canvas(writer)
            asked = nil
            refused = nil
            blank = false
            forget(&device)
            cadence.stir()
            look(at: EventLoop.now(), context)
        } catch {
            refuse(width, height, "\(error)", context)
        }
    }

    mutating func refuse(_ width: Int, _ height: Int, _ reason: String, _ context: borrowing Context) {
        asked = nil
        refused = (width, height)
        context.log(.error, "there is no surface of \(width)×\(height): \(reason)")
    }

    /// What the surface shows is not known any more: the next update draws everything.
    private mutating func forget(_ device: inout VGADevice) {
        device.invalidate()
        shadow.forget()
    }

    private func ring() { for reader in readers.values where reader.watch.viewers > 0 { reader.watch.ringFrame() } }

    // MARK: when

    /// Something has changed that the picture depends on, as far as we know.
    @inline(__always) mutating func stir(_ context: borrowing Context) {
        guard viewers > 0 else { return }
        let now = EventLoop.now()
        cadence.stir()
        look(at: cadence.nextUpdate(from: now), context)
    }

    /// Has the next look at a time, unless one is due earlier.
    private mutating func look(at time: UInt64, _ context: borrowing Context) {
        guard viewers > 0 else { return }
        if let due, due <= time { return }
        if let timer { context.cancel(timer) }
        let now = EventLoop.now()
        timer = context.wake(after: .nanoseconds(Int64(clamping: time > now ? time &- now : 0)))
        due = time
    }

    /// The deadline set by `look` has come. False when it is none of ours.
    mutating func expired(_ timer: EmulatorKit.Timer, _ device: inout VGADevice, _ window: inout LegacyWindow, _ context: borrowing Context) -> Bool {
        guard timer == self.timer else { return false }
        self.timer = nil
        due = nil
        update(&device, &window, context)
        return true
    }

    // MARK: what

    private mutating func update(_ device: inout VGADevice, _ window: inout LegacyWindow, _ context: borrowing Context) {
        guard viewers > 0 else { return }
        guard !waitsForDirty else {
            missed = true
            return
        }
        let now = EventLoop.now()
        lookedAt = now
        // Before it is drawn: what blinks afterwards is no change of the guest's, and no reason to look more often.
        guestWrote = window.look(&device) || device.changedRegisters || device.wroteMemory
        windowIsPlain = window.isPlain
        let scanout = device.scanout
        guard scanout.width > 0, scanout.height > 0 else { return again(changed: false, from: now, device, context) }
        guard let canvas, canvas.writer.width == scanout.width, canvas.writer.height == scanout.height else {
            if asked == nil, refused?.width != scanout.width || refused?.height != scanout.height {
                asked = (scanout.width, scanout.height)
                stopTracking(context)
                context.requestSurface(width: scanout.width, height: scanout.height)
            }
            // A surface that comes looks at once; a mode that changes meanwhile is seen then.
            return again(changed: false, from: now, device, context)
        }
        let range = device.scanoutRange
        if strategy.tracks(range.count, free: video.hasDoorbell, at: now) {
            tracking = true
            waitsForDirty = true
            context.requestDirty(video, pages: range.lowerBound / 4096..<(range.upperBound + 4095) / 4096)
        } else {
            stopTracking(context)
            let changed = shadow.compare(video.bytes, length: video.length, range)
            draw(VGADirtyPages(bitmap: shadow.bitmap, firstPage: shadow.firstPage), changed > 0, from: now, &device, context)
        }
    }

    /// The host has said which pages the guest has written.
    mutating func dirty(_ device: inout VGADevice, _ context: borrowing Context) {
        guard waitsForDirty else { return }
        waitsForDirty = false
        let range = device.scanoutRange
        var dirty = 0
        for page in range.lowerBound / 4096..<max(range.lowerBound / 4096, (range.upperBound + 4095) / 4096) where video.isDirty(page: page) { dirty &+= 1 }
        strategy.answered(dirty: dirty, of: max(1, range.count / 4096), free: video.hasDoorbell, at: lookedAt)
        let bits = UnsafeRawBufferPointer(start: video.dirtyWords, count: video.wordCount &* 8)
        draw(VGADirtyPages(bitmap: bits), dirty > 0, from: lookedAt, &device, context)
    }

    /// Brings the surface up to date.
    private mutating func draw(_ dirty: VGADirtyPages, _ touched: Bool, from start: UInt64, _ device: inout VGADevice, _ context: borrowing Context) {
        let now = EventLoop.now()
        let scanout = device.scanout
        guard viewers > 0, let canvas, canvas.writer.width == scanout.width, canvas.writer.height == scanout.height else {
            // The pages that were named as changed are not drawn now, and are not named again.
            forget(&device)
            // The mode has changed meanwhile: the next look asks for its surface.
            missed = true
            return again(changed: true, from: start, device, context)
        }
        if touched || guestWrote { blinking.stir(at: now) }
        var reported = false
        let target = VGATarget(
            pixels: canvas.writer.pixels, width: canvas.writer.width, height: canvas.writer.height, stride: canvas.writer.stride)
        device.render(into: target, dirty: dirty, now: now, steady: blinking.isSteady(at: now)) { change in
            reported = true
            switch change {
            case .damage(let x, let y, let width, let height):
                canvas.writer.damage(SurfaceRectangle(x: x, y: y, width: width, height: height))
            case .copy(let fromX, let fromY, let x, let y, let width, let height):
                canvas.writer.copied(from: fromX, y: fromY, to: SurfaceRectangle(x: x, y: y, width: width, height: height))
            }
        }
        let isBlank = scanout.kind == .blank
        if isBlank != blank {
            blank = isBlank
            canvas.writer.setBlank(isBlank)
            reported = true
        }
        let announced = announces
        if reported || announces {
            announces = false
            canvas.writer.publish()
            ring()
        }
        again(changed: touched || guestWrote || announced, from: start, device, context)
    }

    private mutating func again(changed: Bool, from start: UInt64, _ device: borrowing VGADevice, _ context: borrowing Context) {
        let now = EventLoop.now()
        // Where asking costs the guest nothing, what it took is no reason to ask less often: the readers' rate is limit enough.
        let isFree = video.hasDoorbell && tracking
        cadence.looked(at: now, changed: changed, spent: isFree ? 0 : now &- start)
        let blink = device.nextBlink
        var next = cadence.nextLook(after: now, blink: blink)
        // A host that rings at the next write has to be asked no sooner, whether or not there was one: only blinking is left. A look in vain
        // after each change would take the next one's turn. It does not ring for the plain window.
        if isFree && !windowIsPlain { next = blink ?? .max }
        if missed { next = min(next, cadence.nextUpdate(from: now)) }
        missed = false
        if next != .max { look(at: next, context) }
    }
}
